//! What users see, held by snapshots.

use super::{Style, human, json};
use crate::model::{
    BackendFacts, Faults, Folded, FoldedForks, Fork, ForkEnd, ForkKind, ForkMoment, ForkRegion, KernelFacts,
    Lost, Process, REPORT_SCHEMA, RegionFaults, Report, TracerCost,
};

pub(crate) fn faults(copy: u64, zero: u64, file: u64, reuse: u64, anon: u64) -> Faults {
    Faults {
        copy: Some(copy),
        zero: Some(zero),
        file: Some(file),
        ksm: Some(0),
        hugetlb: Some(0),
        pinned: None,
        reuse: Some(reuse),
        shared: Some(0),
        anon: Some(anon),
        denied: Some(0),
    }
}

pub(crate) fn process(
    pid: u32,
    forked_from: Option<u32>,
    faults: Faults,
    regions: Vec<RegionFaults>,
) -> Process {
    let pages = faults.copy.unwrap_or(0) + faults.file.unwrap_or(0);
    Process {
        ns_pid: None,
        pid,
        ppid: forked_from.unwrap_or(100),
        comm: "server".to_owned(),
        cmdline: vec!["server".to_owned(), "--save".to_owned(), "two words".to_owned()],
        forked_from,
        start_ns: u64::from(pid) * 1_000_000,
        end_ns: Some(2_000_000_000),
        faults,
        wpcopy: faults.copy,
        raced: None,
        thp_splits: None,
        copied_bytes: Some(pages * 4096),
        anon_bytes: faults.anon.unwrap_or(0) * 4096,
        cow_ns: None,
        regions,
        pages: None,
    }
}

pub(crate) fn report() -> Report {
    let heap = RegionFaults {
        start: 0x5555_0000_0000,
        end: 0x5555_0002_1000,
        perms: "rw-p".to_owned(),
        name: "[heap]".to_owned(),
        faults: faults(12_345, 0, 0, 0, 0),
    };
    let library = RegionFaults {
        start: 0x7f00_0000_0000,
        end: 0x7f00_0000_6000,
        perms: "rw-p".to_owned(),
        name: "/usr/lib/x86_64-linux-gnu/a-library-with-a-long-name.so.6".to_owned(),
        faults: faults(2, 0, 3, 1, 0),
    };
    Report {
        schema: REPORT_SCHEMA,
        kernel: KernelFacts { release: "6.18.0".to_owned(), arch: "x86_64".to_owned(), page_size: 4096 },
        backend: BackendFacts {
            name: "tracepoint".to_owned(),
            blind_to: vec!["gup".to_owned(), "pinned".to_owned()],
            unknown: vec!["pinned: not seen".to_owned()],
        },
        lost: Lost::default(),
        duration_ns: 1_500_000_000,
        command: vec!["server".to_owned(), "--save".to_owned(), "two words".to_owned()],
        exit_status: Some(0),
        complete: true,
        processes: vec![
            process(1, None, faults(0, 1, 12, 8, 12_400), Vec::new()),
            process(2, Some(1), faults(12_347, 0, 3, 1, 5), vec![heap, library]),
        ],
        forks: vec![Fork {
            parent: 1,
            child: 2,
            at_ns: 2_000_000,
            kind: ForkKind::Fork,
            fork_ns: None,
            page_table_kb: Some(160),
            ended_by: ForkEnd::Exit,
            lifetime_ns: Some(1_900_000_000),
            parent_copied_bytes: Some(0),
            child_copied_bytes: Some(50_573_312),
            extra_peak_bytes: Some(50_573_312),
            extra_now_bytes: Some(0),
            parent_cow_ns: None,
            child_cow_ns: None,
            regions: [
                ("[heap]", 48 << 20),
                ("", 200 << 10),
                ("/usr/lib/x86_64-linux-gnu/libc.so.6", 24 << 10),
                ("[stack]", 8 << 10),
            ]
            .map(|(name, bytes)| ForkRegion {
                start: 0x7f12_3456_7000,
                name: name.to_owned(),
                parent_copied_bytes: bytes,
                child_copied_bytes: 0,
            })
            .to_vec(),
            stacks: None,
            forecasts: Vec::new(),
            series: [0, 8, 30, 44, 48]
                .iter()
                .zip(0..)
                .map(|(mib, moment)| ForkMoment {
                    at_ns: 2_000_000 + moment * 400_000_000,
                    parent_copied_bytes: 0,
                    child_copied_bytes: mib << 20,
                })
                .collect(),
        }],
        folded: Vec::new(),
        stacks: None,
        tracer: TracerCost { cpu_ns: 4_600_000, max_rss_kb: 40_000 },
    }
}

const WIDE: Style = Style { color: false, width: 100 };

#[test]
fn a_report_of_two_processes() {
    insta::assert_snapshot!(human(&report(), &WIDE, 20));
}

#[test]
fn a_narrow_terminal_loses_columns_but_not_copies() {
    let text = human(&report(), &Style { color: false, width: 48 }, 20);
    let table = text.lines().filter(|line| line.contains("12,34"));
    assert!(table.clone().count() >= 3 && table.clone().all(|line| line.chars().count() <= 48), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_left_out_is_summed_up() {
    let text = human(&report(), &WIDE, 1);
    assert!(text.contains("… 1 more (--top 0 shows all)"), "{text}");
}

/// What two names of ended processes came to.
pub(crate) fn folded() -> Vec<Folded> {
    let one = |comm: &str, processes: u64, copy: u64| Folded {
        comm: comm.to_owned(),
        processes,
        faults: faults(copy, 2, 3, 4, 5),
        wpcopy: Some(copy + 2),
        raced: None,
        thp_splits: None,
        copied_bytes: Some((copy + 3) * 4096),
        anon_bytes: 5 * 4096,
        cow_ns: None,
        forks: FoldedForks {
            to_exec: processes - 1,
            to_exit: 0,
            vforks: 1,
            parent_copied_bytes: Some(4096),
            child_copied_bytes: Some(copy * 4096),
        },
    };
    vec![one("sh", 1_000_000, 5_000_000), one("true", 20_000, 60_000)]
}

#[test]
fn ended_processes_are_in_the_sums() {
    let report = Report { folded: folded(), ..report() };
    insta::assert_snapshot!(human(&report, &WIDE, 20));
    let text = human(&report, &Style { color: false, width: 60 }, 20);
    assert!(text.contains("\nended    sh 1,000,000 and 1 more"), "{text}");
    let text = String::from_utf8(json(&report).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[test]
fn losses_and_unknown_kinds_are_told() {
    let mut report = report();
    report.lost = Lost { events: 3, processes: 1, regions: 4, stacks: 0, pages: 0 };
    report.exit_status = Some(139);
    report.processes.truncate(1);
    report.processes[0].faults.copy = None;
    report.processes[0].wpcopy = Some(7);
    report.processes[0].copied_bytes = None;
    report.backend.unknown.push("copy: the page tables could not be read".to_owned());
    insta::assert_snapshot!(human(&report, &WIDE, 20));
}

#[test]
fn a_recording_that_was_cut_short_says_so() {
    let report = Report { complete: false, exit_status: None, ..report() };
    let text = human(&report, &WIDE, 20);
    assert!(text.contains("(end not recorded, 1.50 s)"), "{text}");
    assert!(text.contains("not complete: the recorder ended early; last snapshot at 1.50 s"), "{text}");
}

#[test]
fn colours_come_only_when_asked_for() {
    assert!(!human(&report(), &WIDE, 20).contains('\x1b'));
    assert!(human(&report(), &Style { color: true, ..WIDE }, 20).contains("\x1b[1m"));
}

#[test]
fn json_follows_the_contract() {
    let text = String::from_utf8(json(&report()).unwrap()).unwrap();
    insta::assert_snapshot!(text);
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
}

#[test]
fn json_of_older_versions_is_read_and_other_json_is_not() {
    let text = String::from_utf8(json(&report()).unwrap()).unwrap();
    let older = text.replace("  \"complete\": true,\n", "");
    assert_ne!(older, text);
    assert_eq!(serde_json::from_str::<Report>(&older).unwrap(), report());
    let other = text.replace("cowtrace.report/1", "cowtrace.lab/1");
    let error = serde_json::from_str::<Report>(&other).unwrap_err().to_string();
    assert!(error.contains("cowtrace.lab/1") && error.contains("cowtrace.report/1"), "{error}");
    let no_address = text.replace("0x555500000000", "555500000000");
    assert!(serde_json::from_str::<Report>(&no_address).is_err());
}
