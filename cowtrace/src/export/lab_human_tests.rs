//! How the lab's report looks: a fixed report, at two widths.

use std::collections::BTreeMap;

use super::*;
use crate::{lab::claims::Claims, ledger::Row};

fn heap(rss: u64, shared: u64, private: u64) -> Vma {
    Vma {
        start: 0x5000,
        end: 0x26000,
        perms: "rw-p".into(),
        name: "[heap]".into(),
        size_kb: 132,
        rss_kb: rss,
        pss_kb: shared / 2 + private,
        shared_dirty_kb: shared,
        private_dirty_kb: private,
        anonymous_kb: rss,
        ..Vma::default()
    }
}

fn process(
    pid: u32,
    role: &'static str,
    smaps: Option<Vma>,
    faults: &[(&'static str, u64)],
) -> ProcessReport {
    ProcessReport {
        pid,
        role,
        mappings: 29,
        smaps,
        faults: faults.iter().copied().collect::<BTreeMap<_, _>>(),
    }
}

fn row(
    between: [&str; 2],
    pid: u32,
    region: &str,
    kb: [u64; 2],
    explained: Explained,
    residual: i64,
) -> LedgerRow {
    LedgerRow {
        between: between.map(str::to_owned),
        row: Row {
            pid,
            region: region.into(),
            perms: "rw-p".into(),
            private_dirty_kb: kb,
            explained_pages: explained,
            residual_pages: residual,
        },
    }
}

fn report() -> LabReport {
    let mut claims = Claims::new(None);
    claims.equal(
        "copies in the child's heap",
        17,
        Some(17),
        "pages",
        "one copy for each shared page written",
    );
    claims.within("pages in memory", 1..=2, Some(3), "pages", "only the allocator's notes were written");
    claims.unmeasurable("merged pages", 4, "pages", "the kernel was built without KSM");
    let none = Explained::default();
    let copied = Explained { copy: 17, ..none };
    let left = Explained { unshared_by_others: 16, ..none };
    let checkpoints = vec![
        CheckpointReport { name: "start".into(), processes: vec![process(101, "parent", None, &[])] },
        CheckpointReport {
            name: "forked".into(),
            processes: vec![
                process(101, "parent", Some(heap(68, 68, 0)), &[("anon", 17)]),
                process(102, "child", Some(heap(68, 68, 0)), &[]),
            ],
        },
        CheckpointReport {
            name: "child wrote".into(),
            processes: vec![
                process(101, "parent", Some(heap(68, 0, 68)), &[]),
                process(102, "child", Some(heap(68, 0, 68)), &[("copy", 17)]),
            ],
        },
    ];
    let step = ["forked", "child wrote"];
    let ledger = vec![
        row(step, 101, "[heap]", [0, 68], left, 1),
        row(step, 101, "/usr/lib/libc.so.6", [8, 8], none, 0),
        row(step, 102, "[heap]", [0, 68], copied, 0),
    ];
    let experiment = |id, claims, checkpoints, ledger| ExperimentReport {
        id,
        source: "000.txt",
        title: "A title",
        about: "Something is done, and it takes more than one line of a narrow terminal to say what it is, \
                in full.",
        expect: "Something.",
        lesson: "One copy moves two processes.",
        claims,
        ledger,
        focus: "[heap]",
        checkpoints,
        report: Value::Null,
    };
    let start =
        vec![CheckpointReport { name: "start".into(), processes: vec![process(99, "parent", None, &[])] }];
    LabReport {
        schema: crate::lab::report::SCHEMA,
        kernel: Value::Null,
        backend: Value::Null,
        experiments: vec![
            experiment("no-heap", Vec::new(), start, vec![row(step, 99, "[stack]", [8, 8], none, 0)]),
            experiment("child-writes", claims.into_list(), checkpoints, ledger),
        ],
    }
}

#[test]
fn eighty_columns() {
    insta::assert_snapshot!(render(&report(), &Style { color: false, width: 80 }));
}

#[test]
fn fifty_columns() {
    insta::assert_snapshot!(render(&report(), &Style { color: false, width: 50 }));
}

#[test]
fn the_width_is_kept() {
    for width in [40, 60, 80, 120] {
        let text = render(&report(), &Style { color: false, width });
        let widest = text.lines().map(|line| line.chars().count()).max();
        // Titles are not broken.
        assert!(widest <= Some(width), "{width}: {widest:?}\n{text}");
    }
}

#[test]
fn colours_only_when_asked_for() {
    assert!(!render(&report(), &Style { color: false, width: 80 }).contains('\x1b'));
    let colored = render(&report(), &Style { color: true, width: 80 });
    assert!(colored.contains("\x1b[1m"));
}

#[test]
fn an_unexplained_page_is_no_success() {
    let report = report();
    assert!(!report.as_it_should());
    let text = render(&report, &Style { color: false, width: 80 });
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains("1 page of Private_Dirty stays unexplained"), "{text}");
}
