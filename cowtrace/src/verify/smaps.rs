//! The smaps ledger: the family is stopped and read at two moments, and the events between them must explain by how much
//! its Private_Dirty moved.

use std::time::{Duration, Instant};

use super::{
    report::{Finding, LedgerReport, Oracle, OracleName},
    rest::Rest,
};
use crate::{
    collect::Session,
    ledger::{self, Known},
    model::{BackendFacts, FamilyEvent},
    proc::{ProcessHandle, Snapshot},
};

const COVERS: &str = "pages by which Private_Dirty moved between two moments, in all processes that lived then: each \
                      must have its event";

/// How long a family may take to come to rest before it goes on, to be tried again.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long after its moment a reading is still tried.
const LATEST: Duration = Duration::from_secs(10);

/// The two readings, as far as they are taken.
pub(super) struct Readings {
    moments: [Duration; 2],
    started: Instant,
    taken: Vec<Reading>,
    problem: Option<String>,
}

struct Reading {
    at: Duration,
    stopped: Duration,
    family: Vec<Snapshot>,
    /// Since the reading before.
    events: Vec<FamilyEvent>,
}

impl Readings {
    /// At these moments after now.
    pub fn at(moments: [Duration; 2]) -> Readings {
        Readings { moments, started: Instant::now(), taken: Vec::new(), problem: None }
    }

    /// Reads, if it is time; to be called every now and then.
    pub fn look(&mut self, session: &mut Session) {
        let now = self.started.elapsed();
        let due = self.moments.get(self.taken.len()).filter(|moment| **moment <= now);
        let Some(&moment) = due.filter(|_| self.problem.is_none()) else { return };
        match read(session, now) {
            Ok(Some(reading)) => self.taken.push(reading),
            Ok(None) if now < moment + LATEST => {}
            Ok(None) => self.problem = Some(format!("the processes did not come to rest for {LATEST:.0?}")),
            Err(error) => self.problem = Some(format!("{error:#}")),
        }
        if self.taken.len() == self.moments.len() || self.problem.is_some() {
            // What comes now is nobody's business, and takes room.
            session.end_page_log();
        }
    }

    /// What came out, when the run is over.
    pub fn finish(self, backend: &BackendFacts) -> (Oracle, Option<LedgerReport>) {
        let ended = self.started.elapsed();
        if let Some(problem) = self.problem {
            return (not_read(problem), None);
        }
        match <[Reading; 2]>::try_from(self.taken) {
            Ok([first, second]) => {
                let report = explain(&first, &second);
                (oracle(&report, backend), Some(report))
            }
            Err(taken) => {
                let missed = self.moments[taken.len().min(1)];
                (
                    not_read(format!("nothing was left to read at {missed:?}: the run ended at {ended:.1?}")),
                    None,
                )
            }
        }
    }
}

/// Stops the family, takes in what it has done, reads it, and lets it go on. `None`: it did not come to rest.
fn read(session: &mut Session, at: Duration) -> anyhow::Result<Option<Reading>> {
    let begin = Instant::now();
    let Some(rest) = Rest::of(|| Ok(session.living()?), PATIENCE)? else { return Ok(None) };
    let events = session.family_events()?;
    let mut family = Vec::new();
    for pid in session.living()? {
        // Only SIGKILL can end one now.
        let Ok(handle) = ProcessHandle::open(pid) else { continue };
        match Snapshot::take(pid) {
            Ok(snapshot) => family.push(snapshot),
            Err(_) if handle.is_gone() => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(rest);
    // A run whose last process is about to end has nothing to read.
    Ok((!family.is_empty()).then(|| Reading { at, stopped: begin.elapsed(), family, events }))
}

fn explain(first: &Reading, second: &Reading) -> LedgerReport {
    // Of an arbitrary program it is not known that it never discards memory.
    let known = Known { may_discard: true, ..Known::default() };
    LedgerReport {
        at_ms: [first, second].map(|reading| ms(reading.at)),
        stopped_ms: [first, second].map(|reading| ms(reading.stopped)),
        new_programs: second.events.iter().filter_map(new_program).collect(),
        rows: ledger::explain(&first.family, &second.events, &second.family, known),
    }
}

fn new_program(event: &FamilyEvent) -> Option<u32> {
    match event {
        FamilyEvent::Exec { pid } => Some(*pid),
        _ => None,
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn oracle(report: &LedgerReport, backend: &BackendFacts) -> Oracle {
    let (rows, residual) = (&report.rows, report.residual_pages());
    let processes: std::collections::BTreeSet<u32> = rows.iter().map(|row| row.pid).collect();
    let [from, to] = report.at_ms;
    let unexplained = match residual {
        0 => "all pages are explained".to_owned(),
        // Events are known to be missing for these, so that a count is not known to be wrong.
        pages if backend.blind_to.iter().any(|blind| blind == "gup") => format!(
            "{pages} pages are not explained; there are no events of memory that mremap moves, nor, with the {} backend, \
             of what the kernel writes without a page fault",
            backend.name
        ),
        pages => {
            format!("{pages} pages are not explained; there are no events of memory that mremap moves")
        }
    };
    let all: u64 = rows.iter().map(|row| row.residual_pages.unsigned_abs()).sum();
    let by_exec = match all - residual {
        0 => String::new(),
        pages => format!("; {pages} more are of processes that became another program in between"),
    };
    Oracle {
        name: OracleName::Smaps,
        available: true,
        why_not: None,
        covers: COVERS,
        lost_records: 0,
        finding: Some(if residual == 0 { Finding::Holds } else { Finding::Incomplete }),
        explanation: Some(format!(
            "from {from} to {to} ms, {} mappings of {} processes: {unexplained}{by_exec}",
            rows.len(),
            processes.len()
        )),
    }
}

fn not_read(why: String) -> Oracle {
    Oracle {
        name: OracleName::Smaps,
        available: false,
        why_not: Some(why),
        covers: COVERS,
        lost_records: 0,
        finding: Some(Finding::Incomplete),
        explanation: None,
    }
}

/// The oracle where nobody has asked for it.
pub(super) fn not_asked_for() -> Oracle {
    Oracle { finding: None, ..not_read("not asked for (--ledger T1,T2)".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::backend, *};
    use crate::ledger::{Explained, Row};

    fn row(pid: u32, residual_pages: i64) -> Row {
        Row {
            pid,
            region: "[heap]".into(),
            perms: "rw-p".into(),
            private_dirty_kb: [0, 8],
            explained_pages: Explained::default(),
            residual_pages,
        }
    }

    #[test]
    fn residuals_do_not_cancel_out() {
        let report =
            |rows| LedgerReport { at_ms: [200, 800], stopped_ms: [1, 2], new_programs: vec![3], rows };
        let mut backend = backend();
        let good = oracle(&report(vec![row(1, 0), row(2, 0)]), &backend);
        assert_eq!(good.finding, Some(Finding::Holds));
        let rows = vec![row(1, 3), row(1, -3), row(2, 0), row(3, 7)];
        let bad = oracle(&report(rows.clone()), &backend);
        assert_eq!(bad.finding, Some(Finding::Incomplete));
        let text = bad.explanation.unwrap();
        assert!(text.starts_with("from 200 to 800 ms, 4 mappings of 3 processes: 6 pages are not"), "{text}");
        assert!(text.contains("without a page fault"), "{text}");
        assert!(text.ends_with("; 7 more are of processes that became another program in between"), "{text}");
        backend.blind_to.clear();
        let text = oracle(&report(rows), &backend).explanation.unwrap();
        assert!(text.contains("mremap") && !text.contains("without a page fault"), "{text}");
    }

    #[test]
    fn a_moment_that_never_came_is_told_as_missing() {
        let readings = Readings::at([Duration::from_secs(60), Duration::from_secs(61)]);
        let (oracle, report) = readings.finish(&backend());
        assert_eq!((oracle.finding, report), (Some(Finding::Incomplete), None));
        assert!(oracle.why_not.unwrap().contains("60s"));
        assert_eq!(not_asked_for().finding, None);
    }
}
