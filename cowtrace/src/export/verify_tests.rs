//! What users see of a verification, held by snapshots.

use super::{Style, human_tests, json, verify};
use crate::{
    ledger::{Explained, Row},
    verify::{
        Finding, LedgerReport, Oracle, OracleName, Outcome, ProcessVerdict, Totals, VERIFY_SCHEMA, Verdict,
        VerifyReport,
    },
};

fn row(pid: u32, copies: u64, verdict: Verdict, why: Option<&str>) -> ProcessVerdict {
    ProcessVerdict {
        pid,
        comm: "server".to_owned(),
        wpcopy: Some(copies),
        kernel_wpcopy: Some(copies),
        faults: Some(copies + 100),
        minor_faults: Some(copies + 150),
        major_faults: Some(2),
        verdict,
        explanation: why.map(str::to_owned),
    }
}

fn oracle(name: OracleName, finding: Option<Finding>, said: &str) -> Oracle {
    let available = finding.is_some();
    Oracle {
        name,
        available,
        why_not: (!available).then(|| said.to_owned()),
        covers: "what it covers",
        lost_records: 0,
        finding,
        explanation: available.then(|| said.to_owned()),
    }
}

/// With these rows, and the sums that belong to them.
fn verification(processes: Vec<ProcessVerdict>, verdict: Outcome) -> VerifyReport {
    let report = human_tests::report();
    let count = |verdict| processes.iter().filter(|row| row.verdict == verdict).count() as u64;
    let compared = || processes.iter().filter(|row| row.wpcopy.is_some() && row.kernel_wpcopy.is_some());
    let totals = Totals {
        processes: processes.len() as u64,
        exact: count(Verdict::Exact),
        differ: count(Verdict::Differs),
        running: count(Verdict::Running),
        no_record: count(Verdict::NoRecord),
        not_traced: count(Verdict::NotTraced),
        bounded: count(Verdict::Bounded),
        wpcopy: compared().filter_map(|row| row.wpcopy).sum(),
        kernel_wpcopy: compared().filter_map(|row| row.kernel_wpcopy).sum(),
        verdict,
    };
    VerifyReport {
        schema: VERIFY_SCHEMA,
        kernel: report.kernel.clone(),
        backend: report.backend.clone(),
        lost: report.lost,
        oracles: vec![
            oracle(OracleName::WpcopyCount, Some(Finding::Holds), "equal in 2 of 2 processes"),
            oracle(OracleName::MinorFaults, Some(Finding::Holds), "at least as many in 2 of 2 processes"),
            oracle(
                OracleName::CowKsm,
                Some(Finding::Holds),
                "0 counted, 0 by the kernel on the whole machine",
            ),
            oracle(OracleName::Smaps, None, "not asked for (--ledger T1,T2)"),
        ],
        processes,
        totals,
        ledger: None,
        report,
    }
}

/// A verification of this report, in which all that comes from outside is this name.
pub(super) fn named(name: &str, report: crate::model::Report) -> VerifyReport {
    let rows = vec![row(1, 5, Verdict::Differs, Some(name)), row(2, 5, Verdict::Exact, None)];
    let mut verification = verification(rows, Outcome::Differs);
    verification.processes.iter_mut().for_each(|row| row.comm = name.to_owned());
    verification.oracles[0].explanation = Some(name.to_owned());
    verification.ledger = Some(LedgerReport {
        at_ms: [200, 803],
        stopped_ms: [3, 12],
        new_programs: Vec::new(),
        rows: vec![ledger_row(1, name, [0, 12], 0, 3)],
    });
    VerifyReport { report, ..verification }
}

fn exact() -> VerifyReport {
    verification(vec![row(1, 12_347, Verdict::Exact, None), row(2, 5, Verdict::Exact, None)], Outcome::Exact)
}

fn ledger_row(pid: u32, region: &str, kb: [u64; 2], copy: i64, residual_pages: i64) -> Row {
    Row {
        pid,
        region: region.to_owned(),
        perms: "rw-p".to_owned(),
        private_dirty_kb: kb,
        explained_pages: Explained { copy, ..Explained::default() },
        residual_pages,
    }
}

const WIDE: Style = Style { color: false, width: 100 };

fn last_line(report: &VerifyReport) -> String {
    verify(report, &WIDE).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn all_is_exact() {
    insta::assert_snapshot!(verify(&exact(), &WIDE));
}

#[test]
fn every_verdict_has_its_words() {
    let mut fewer = row(1, 5, Verdict::Differs, Some("not explained: please report, with `cowtrace doctor`"));
    fewer.kernel_wpcopy = Some(1008);
    let mut faults =
        row(2, 5, Verdict::Differs, Some("200 write faults, of which the kernel has solved fewer"));
    faults.faults = Some(200);
    let unknown = |mut row: ProcessVerdict| {
        (row.minor_faults, row.major_faults, row.kernel_wpcopy) = (None, None, None);
        row
    };
    let running = unknown(row(3, 7, Verdict::Running, Some("the kernel tells its count when it ends")));
    let lost = unknown(row(4, 7, Verdict::NoRecord, Some("the kernel had no room for 3 of its records")));
    let mut untraced = row(5, 11, Verdict::NotTraced, Some("no slot for it, or for its parent"));
    (untraced.wpcopy, untraced.faults) = (None, None);
    let bounded = ProcessVerdict { kernel_wpcopy: None, ..row(6, 7, Verdict::Bounded, None) };
    let rows = vec![fewer, faults, running, lost, untraced, bounded];
    insta::assert_snapshot!(verify(
        &verification(rows, Outcome::Differs),
        &Style { color: false, width: 80 }
    ));
}

#[test]
fn of_many_processes_only_those_that_differ_are_shown() {
    let mut rows: Vec<_> = (1..=240).map(|pid| row(pid, 10, Verdict::Exact, None)).collect();
    rows[99] = row(100, 10, Verdict::Differs, Some("the tracer lost 3 events"));
    rows[99].kernel_wpcopy = Some(11);
    insta::assert_snapshot!(verify(&verification(rows, Outcome::Differs), &WIDE));
    let rows = (1..=100).map(|pid| row(pid, 10, Verdict::Differs, None)).collect();
    let text = verify(&verification(rows, Outcome::Differs), &WIDE);
    assert!(text.contains("60 more") && text.contains("differ as well"), "{text}");
    assert!(text.ends_with("100 of 100 processes differ\n"), "{text}");
}

#[test]
fn the_ledger_shows_what_is_left() {
    let mut report = exact();
    report.oracles[3] =
        oracle(OracleName::Smaps, Some(Finding::Incomplete), "from 200 to 800 ms: 3 pages are not explained");
    report.totals.verdict = Outcome::Incomplete;
    report.ledger = Some(LedgerReport {
        at_ms: [200, 803],
        stopped_ms: [3, 12],
        new_programs: Vec::new(),
        rows: vec![
            ledger_row(1, "[heap]", [0, 4096], 1024, 0),
            ledger_row(1, "/usr/lib/libc.so.6", [16, 16], 0, 0),
            ledger_row(2, "[heap]", [0, 12], 0, 3),
        ],
    });
    insta::assert_snapshot!(verify(&report, &WIDE));
}

#[test]
fn the_last_line_is_the_outcome() {
    assert_eq!(last_line(&exact()), "exact: 2 processes, 12,352 copies");
    let mut one = verification(vec![row(1, 1, Verdict::Exact, None)], Outcome::Exact);
    assert_eq!(last_line(&one), "exact: 1 process, 1 copy");
    one.processes.push(row(2, 0, Verdict::Running, None));
    one.totals.running = 1;
    assert_eq!(last_line(&one), "exact: 1 process, 1 copy; 1 still running, not compared");
    one.totals.verdict = Outcome::Incomplete;
    one.oracles[0].lost_records = 1200;
    one.totals.no_record = 1;
    assert_eq!(
        last_line(&one),
        "incomplete: the kernel had no room for 1,200 of its records; 1 process has no exit record; 1 process exact; \
         1 still running, not compared"
    );
    let mut bounded = verification(vec![row(1, 7, Verdict::Bounded, None)], Outcome::Bounded);
    bounded.totals.wpcopy = 7;
    assert!(
        last_line(&bounded).starts_with("not contradicted: 1 process, 7 copies; nothing counts copies here")
    );
    let mut ksm = exact();
    ksm.totals.verdict = Outcome::Differs;
    ksm.oracles[2].finding = Some(Finding::Differs);
    assert_eq!(last_line(&ksm), "0 of 2 processes differ; cow_ksm differs");
    let mut unread = exact();
    unread.totals.verdict = Outcome::Incomplete;
    unread.oracles[3].finding = Some(Finding::Incomplete);
    assert_eq!(last_line(&unread), "incomplete: smaps could not be read; 2 processes exact");
}

#[test]
fn colours_come_only_when_asked_for() {
    assert!(!verify(&exact(), &WIDE).contains('\x1b'));
    assert!(verify(&exact(), &Style { color: true, ..WIDE }).contains("\x1b[1;32mexact"));
}

#[test]
fn json_follows_the_contract() {
    let mut report = exact();
    report.report.processes.clear();
    report.report.forks.clear();
    report.ledger = Some(LedgerReport {
        at_ms: [200, 800],
        stopped_ms: [3, 12],
        new_programs: vec![2],
        rows: vec![ledger_row(1, "[heap]", [0, 4096], 1024, 0)],
    });
    insta::assert_snapshot!(String::from_utf8(json(&report).unwrap()).unwrap());
}
