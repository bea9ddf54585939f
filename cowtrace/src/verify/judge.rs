//! Each process against the kernel's record of it, and what follows for the whole.

use super::{
    explain::Run,
    pairing::pair,
    report::{Finding, Oracle, Outcome, ProcessVerdict, Totals, Verdict},
};
use crate::{
    model::{Faults, Process},
    proc::Exited,
};

/// A row for each process.
pub(super) fn judge(processes: &[Process], exits: &[Exited], run: Run<'_>) -> Vec<ProcessVerdict> {
    let pairs = pair(processes, exits);
    let traced = processes.iter().zip(&pairs.record_of).map(|(process, record)| match record {
        Some(place) => compare(process, &exits[*place], run),
        None => without_record(process, run),
    });
    let untraced = pairs.untraced.iter().map(|&place| not_traced(&exits[place], run));
    traced.chain(untraced).collect()
}

fn compare(process: &Process, exited: &Exited, run: Run<'_>) -> ProcessVerdict {
    let counted = solved_faults(&process.faults);
    let solved = exited.minflt + exited.majflt;
    let mut explanations = Vec::new();
    let mut verdict = match (process.wpcopy, exited.wpcopy) {
        (Some(ours), Some(kernels)) if ours == kernels => Verdict::Exact,
        (Some(ours), Some(kernels)) => {
            explanations.push(run.copies(ours, kernels, exited));
            Verdict::Differs
        }
        (None, _) => {
            explanations.push(run.unknown(process));
            Verdict::Bounded
        }
        (Some(_), None) => Verdict::Bounded,
    };
    // Without the threads that this kernel does not tell of, nothing can be said.
    if counted > solved && exited.whole {
        explanations.push(run.faults(counted, solved, exited));
        verdict = Verdict::Differs;
    }
    ProcessVerdict {
        pid: process.pid,
        comm: process.comm.clone(),
        wpcopy: process.wpcopy,
        kernel_wpcopy: exited.wpcopy,
        faults: Some(counted),
        minor_faults: exited.whole.then_some(exited.minflt),
        major_faults: exited.whole.then_some(exited.majflt),
        verdict,
        explanation: (!explanations.is_empty()).then(|| explanations.join("; ")),
    }
}

fn without_record(process: &Process, run: Run<'_>) -> ProcessVerdict {
    let (verdict, explanation) = match process.end_ns {
        Some(_) => (Verdict::NoRecord, run.no_record()),
        None => (Verdict::Running, "the kernel tells its count when it ends".to_owned()),
    };
    ProcessVerdict {
        pid: process.pid,
        comm: process.comm.clone(),
        wpcopy: process.wpcopy,
        kernel_wpcopy: None,
        faults: Some(solved_faults(&process.faults)),
        minor_faults: None,
        major_faults: None,
        verdict,
        explanation: Some(explanation),
    }
}

fn not_traced(exited: &Exited, run: Run<'_>) -> ProcessVerdict {
    ProcessVerdict {
        pid: exited.pid,
        comm: exited.comm.clone(),
        wpcopy: None,
        kernel_wpcopy: exited.wpcopy,
        faults: None,
        minor_faults: Some(exited.minflt),
        major_faults: Some(exited.majflt),
        verdict: Verdict::NotTraced,
        explanation: Some(run.not_traced()),
    }
}

/// Faults that the kernel counts as solved, as far as their kinds are known: not those that ended in a signal, and not
/// the copies that fork itself makes.
fn solved_faults(faults: &Faults) -> u64 {
    let Faults { copy, zero, file, ksm, hugetlb, pinned: _, reuse, shared, anon, denied: _ } = *faults;
    [copy, zero, file, ksm, hugetlb, reuse, shared, anon].into_iter().flatten().sum()
}

/// All rows together, and what the oracles say besides.
pub(super) fn totals(rows: &[ProcessVerdict], oracles: &[Oracle], run: Run<'_>) -> Totals {
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count() as u64;
    let compared = |row: &&ProcessVerdict| row.wpcopy.is_some() && row.kernel_wpcopy.is_some();
    let copies = |of: fn(&ProcessVerdict) -> Option<u64>| rows.iter().filter(compared).filter_map(of).sum();
    let mut totals = Totals {
        processes: rows.len() as u64,
        exact: count(Verdict::Exact),
        differ: count(Verdict::Differs),
        running: count(Verdict::Running),
        no_record: count(Verdict::NoRecord),
        not_traced: count(Verdict::NotTraced),
        bounded: count(Verdict::Bounded),
        wpcopy: copies(|row| row.wpcopy),
        kernel_wpcopy: copies(|row| row.kernel_wpcopy),
        verdict: Outcome::Exact,
    };
    let found = |finding| oracles.iter().any(|oracle| oracle.finding == Some(finding));
    let compared = totals.exact + totals.bounded;
    totals.verdict = if totals.differ + totals.not_traced > 0 || found(Finding::Differs) {
        Outcome::Differs
    } else if compared == 0
        || totals.no_record + run.lost_records + run.lost.processes > 0
        || found(Finding::Incomplete)
    {
        Outcome::Incomplete
    } else if totals.bounded > 0 {
        Outcome::Bounded
    } else {
        Outcome::Exact
    };
    totals
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            explain::UNEXPLAINED,
            report::OracleName,
            tests::{backend, process},
        },
        *,
    };
    use crate::model::{BackendFacts, Lost};

    fn exit(pid: u32, wpcopy: Option<u64>, minflt: u64) -> Exited {
        Exited { pid, wpcopy, minflt, threads: 1, whole: true, ppid: 1, ..Exited::default() }
    }

    fn run<'a>(backend: &'a BackendFacts, lost: &'a Lost) -> Run<'a> {
        Run { backend, lost, lost_records: 0, accounting_off: false }
    }

    const NOTHING: Lost = Lost { events: 0, processes: 0, regions: 0, stacks: 0, pages: 0 };

    fn row(ours: u64, exited: Exited) -> ProcessVerdict {
        let backend = backend();
        judge(&[process(7, ours)], &[exited], run(&backend, &NOTHING)).remove(0)
    }

    #[test]
    fn equal_counts_within_the_faults_are_exact() {
        let row = row(5, exit(7, Some(5), 9));
        assert_eq!((row.verdict, row.explanation), (Verdict::Exact, None));
        assert_eq!((row.faults, row.minor_faults), (Some(5), Some(9)));
    }

    #[test]
    fn a_copy_too_few_may_be_one_without_a_fault() {
        let row = row(5, exit(7, Some(6), 9));
        assert_eq!(row.verdict, Verdict::Differs);
        let why = row.explanation.unwrap();
        assert!(why.contains("process_vm_writev") && why.contains("cowtrace doctor"), "{why}");
    }

    #[test]
    fn a_copy_too_many_is_not_explained() {
        let row = row(6, exit(7, Some(5), 9));
        assert_eq!(
            (row.verdict, row.explanation.as_deref()),
            (Verdict::Differs, Some("not explained: please report, with `cowtrace doctor`"))
        );
    }

    #[test]
    fn more_faults_than_the_kernel_has_solved_are_told() {
        let row = row(10, exit(7, Some(10), 9));
        assert_eq!(row.verdict, Verdict::Differs);
        let why = row.explanation.unwrap();
        assert!(why.starts_with("10 write faults, of which the kernel has solved no more than 9"), "{why}");
    }

    #[test]
    fn a_bound_without_all_threads_is_none() {
        let exited = Exited { whole: false, wpcopy: None, ..exit(7, None, 3) };
        let row = row(10, exited);
        assert_eq!((row.verdict, row.minor_faults), (Verdict::Bounded, None));
    }

    #[test]
    fn causes_that_are_known_are_given_before_those_that_may_be() {
        let (backend, mut lost) = (backend(), NOTHING);
        lost.processes = 2;
        lost.events = 3;
        let threads = |wpcopy| [Exited { threads: 4, ..exit(7, Some(wpcopy), 9) }];
        let why = |processes: &[Process], exits: &[Exited], run| {
            judge(processes, exits, run).remove(0).explanation.unwrap_or_default()
        };
        let some = run(&backend, &lost);
        assert_eq!(
            why(&[process(7, 5)], &threads(8), some),
            "2 processes or threads found no slot (--max-tasks follows more); or the tracer lost 3 events"
        );
        let off = Run { accounting_off: true, lost_records: 9, ..run(&backend, &NOTHING) };
        let text = why(&[process(7, 5)], &threads(0), off);
        assert!(text.contains("task_delayacct was switched off") && text.contains("no room for 9"), "{text}");
        let text = why(&[process(7, 5)], &threads(6), run(&backend, &NOTHING));
        assert!(text.contains("two threads that write to one page"), "{text}");
        let text = why(&[process(7, 5)], &[], off);
        assert!(text.contains("no room for 9"), "{text}");
        assert_eq!(why(&[process(7, 5)], &[], run(&backend, &NOTHING)), UNEXPLAINED);
    }

    #[test]
    fn a_process_without_a_slot_is_told() {
        let (backend, lost) = (backend(), Lost { processes: 1, ..NOTHING });
        let child = Exited { ppid: 7, comm: "ls".into(), ..exit(8, Some(3), 9) };
        let rows = judge(&[process(7, 5)], &[child, exit(7, Some(5), 9)], run(&backend, &lost));
        assert_eq!(
            rows.iter().map(|row| row.verdict).collect::<Vec<_>>(),
            [Verdict::Exact, Verdict::NotTraced]
        );
        assert_eq!((rows[1].pid, rows[1].wpcopy, rows[1].kernel_wpcopy), (8, None, Some(3)));
        assert!(rows[1].explanation.as_ref().unwrap().contains("--max-tasks"));
        assert_eq!(totals(&rows, &[], run(&backend, &lost)).verdict, Outcome::Differs);
    }

    #[test]
    fn a_fork_among_lost_events_is_told() {
        let why = |lost: Lost| {
            let child = Exited { ppid: 7, ..exit(8, Some(3), 9) };
            let exits = [child, exit(7, Some(5), 9)];
            judge(&[process(7, 5)], &exits, run(&backend(), &lost))[1].explanation.clone().unwrap()
        };
        let forks = why(Lost { events: 2, ..NOTHING });
        assert!(forks.contains("lost 2 events: that of this fork"), "{forks}");
        let both = why(Lost { events: 2, processes: 1, ..NOTHING });
        assert!(both.contains("no slot") && both.contains("lost 2 events"), "{both}");
        assert!(why(NOTHING).contains(UNEXPLAINED));
    }

    #[test]
    fn the_whole_is_exact_only_if_all_is() {
        let backend = backend();
        let known = run(&backend, &NOTHING);
        let rows = |wpcopy, runs: bool| {
            let mut second = process(8, 0);
            second.end_ns = second.end_ns.filter(|_| !runs);
            judge(&[process(7, 5), second], &[exit(7, wpcopy, 9), exit(8, wpcopy.map(|_| 0), 9)], known)
        };
        let verdict = |rows: &[ProcessVerdict], oracles: &[Oracle], run| totals(rows, oracles, run).verdict;
        let oracle = |finding| Oracle {
            name: OracleName::Smaps,
            available: true,
            why_not: None,
            covers: "",
            lost_records: 0,
            finding: Some(finding),
            explanation: None,
        };
        let good = rows(Some(5), false);
        let sums = totals(&good, &[], known);
        assert_eq!((sums.exact, sums.wpcopy, sums.kernel_wpcopy), (2, 5, 5));
        assert_eq!(verdict(&good, &[oracle(Finding::Holds)], known), Outcome::Exact);
        assert_eq!(verdict(&good, &[oracle(Finding::Differs)], known), Outcome::Differs);
        assert_eq!(verdict(&good, &[oracle(Finding::Incomplete)], known), Outcome::Incomplete);
        assert_eq!(verdict(&good, &[], Run { lost_records: 1, ..known }), Outcome::Incomplete);
        assert_eq!(verdict(&rows(Some(4), false), &[], known), Outcome::Differs);
        assert_eq!(verdict(&rows(None, false), &[], known), Outcome::Bounded);
        // What runs takes nothing from what is exact, but is nothing by itself.
        assert_eq!(verdict(&rows(Some(5), true), &[], known), Outcome::Exact);
        let mut running = rows(Some(5), true);
        running.remove(0);
        assert_eq!(verdict(&running, &[], known), Outcome::Incomplete);
        let no_record = judge(&[process(7, 5)], &[], known);
        assert_eq!(verdict(&no_record, &[], known), Outcome::Incomplete);
    }
}
