//! A report with every element: curves, figures, page maps, each verdict, many mappings and checkpoints.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    lab::{
        LabReport,
        claims::{Claim, Claims, Verdict},
        report::{
            Axis, CheckpointReport, Curve, ExperimentReport, Figures, LedgerRow, PageMap, ProcessReport,
            SCHEMA, Series,
        },
    },
    ledger::{Explained, Row},
    proc::{Status, Vma},
};

fn heap(size: u64, shared: u64, private: u64) -> Vma {
    let rss = shared + private;
    Vma {
        start: 0x5000,
        end: 0x5000 + size * 1024,
        perms: "rw-p".into(),
        name: "[heap]".into(),
        size_kb: size,
        rss_kb: rss,
        pss_kb: shared / 2 + private,
        shared_dirty_kb: shared,
        private_dirty_kb: private,
        anonymous_kb: rss,
        ..Vma::default()
    }
}

fn process(pid: u32, role: &'static str, smaps: Option<Vma>, fault: &str) -> ProcessReport {
    let pages = smaps.as_ref().map(|vma| {
        let all = usize::try_from(vma.size_kb / 4).unwrap();
        let used = usize::try_from(vma.rss_kb / 4).unwrap();
        let state = if vma.shared_dirty_kb > 0 { "s" } else { "p" };
        let letter = fault.chars().next().map_or(".".to_owned(), |letter| letter.to_string());
        PageMap {
            state: state.repeat(used) + &".".repeat(all - used),
            faulted: letter.repeat(used) + &".".repeat(all - used),
        }
    });
    let kinds = [("anon", "a"), ("copy", "c")];
    let kind = kinds.iter().find(|(_, letter)| *letter == fault);
    let counted = kind.map(|(kind, _)| (*kind, smaps.as_ref().map_or(0, |vma| vma.rss_kb / 4)));
    ProcessReport {
        pid,
        role,
        mappings: 29,
        status: Status::default(),
        smaps,
        faults: counted.into_iter().collect::<BTreeMap<_, _>>(),
        pages,
    }
}

fn checkpoint(name: &str, processes: Vec<ProcessReport>) -> CheckpointReport {
    CheckpointReport { name: name.to_owned(), processes }
}

fn row(between: [&str; 2], pid: u32, region: &str, kb: [u64; 2], explained: Explained) -> LedgerRow {
    LedgerRow {
        between: between.map(str::to_owned),
        row: Row {
            pid,
            region: region.into(),
            perms: "rw-p".into(),
            private_dirty_kb: kb,
            explained_pages: explained,
            residual_pages: 0,
        },
    }
}

fn experiment(id: &'static str, claims: Vec<Claim>) -> ExperimentReport {
    ExperimentReport {
        id,
        source: "000.txt",
        title: "A title",
        about: "Something is done, and it takes more than one line of a narrow terminal to say what it is, \
                in full.",
        expect: "Something.",
        lesson: "One copy moves two processes.",
        duration_ms: 412,
        size_bytes: None,
        claims,
        tables: Vec::new(),
        curves: Vec::new(),
        ledger: Vec::new(),
        focus: "[heap]",
        checkpoints: Vec::new(),
        report: Value::Null,
    }
}

fn no_heap() -> ExperimentReport {
    ExperimentReport {
        ledger: vec![row(["start", "idle"], 99, "[stack]", [8, 8], Explained::default())],
        checkpoints: vec![checkpoint("start", vec![process(99, "parent", None, "")])],
        ..experiment("no-heap", Vec::new())
    }
}

/// Page maps, each verdict, and one that is not as it should be.
fn child_writes() -> ExperimentReport {
    let mut claims = Claims::new(None);
    let why = "one copy for each shared page written";
    claims.equal("copies in the child's heap", 17, Some(17), "pages", why);
    let why = "only the allocator's notes were written";
    claims.within("pages in memory", 1..=2, Some(3), "pages", why);
    claims.unmeasurable("merged pages", 4, "pages", "the kernel was built without KSM");
    let mut claims = claims.into_list();
    let other = |claim: &str, expected: Value, measured: Value, unit, verdict, why: &str| Claim {
        claim: claim.into(),
        expected,
        measured,
        unit,
        verdict,
        why: why.into(),
        right_verdict: verdict,
    };
    claims.push(other(
        "before it writes, the child's RSS is tiny, as it has nothing of its own yet, and a <table> of pages at most",
        json!("at most 8"),
        json!(51_200),
        "kB",
        Verdict::Refuted,
        "measured 51200, where the source has at most 8: shared pages are resident in each process that maps \
         them; only Pss divides",
    ));
    claims.push(other(
        "copies with huge pages",
        json!(1),
        json!(512),
        "pages",
        Verdict::Differs,
        "huge pages are off here (transparent_hugepage is never)",
    ));
    let step = ["forked", "child wrote"];
    let mut ledger = vec![
        row(step, 101, "[heap]", [0, 68], Explained { unshared_by_others: 16, ..Explained::default() }),
        row(step, 101, "/usr/lib/libc.so.6", [8, 8], Explained::default()),
        row(step, 102, "[heap]", [0, 68], Explained { copy: 17, ..Explained::default() }),
    ];
    ledger[0].row.residual_pages = 1;
    ExperimentReport {
        title: "The child writes: it makes all the copies",
        ledger,
        checkpoints: vec![
            checkpoint("start", vec![process(101, "parent", None, "")]),
            checkpoint(
                "forked",
                vec![
                    process(101, "parent", Some(heap(132, 68, 0)), "a"),
                    process(102, "child", Some(heap(132, 68, 0)), ""),
                ],
            ),
            checkpoint(
                "child wrote",
                vec![
                    process(101, "parent", Some(heap(132, 0, 68)), ""),
                    process(102, "child", Some(heap(132, 0, 68)), "c"),
                ],
            ),
        ],
        ..experiment("child-writes", claims)
    }
}

fn series(name: &str, measured: bool, count: u32, y: impl Fn(f64) -> f64) -> Series {
    let points = (0..=count).map(|n| f64::from(n) / f64::from(count)).map(|share| [share * 2048.0, y(share)]);
    Series { name: name.into(), measured, points: points.collect() }
}

/// Curves, figures, many checkpoints, many mappings.
fn worst_case() -> ExperimentReport {
    let mut claims = Claims::new(None);
    claims.equal("pages written", 1024, Some(1024), "pages", "each of them once");
    let unique = |share: f64| 1024.0 * (1.0 - (-2.0 * share).exp());
    let curve = Curve {
        title: "Copies while a long-lived child lives".into(),
        x: Axis { label: "writes", unit: "" },
        y: Axis { label: "pages copied", unit: "pages" },
        series: vec![
            series("parent", true, 16, |share| unique(share) + 6.0 * (share * 40.0).sin()),
            series("child", true, 16, |share| 90.0 * share),
            series("N(1 - e^(-w/N))", false, 64, unique),
        ],
    };
    let timing = Curve {
        title: "Time of a fork".into(),
        x: Axis { label: "memory", unit: "MiB" },
        y: Axis { label: "median", unit: "ms" },
        series: vec![Series {
            name: "child does nothing".into(),
            measured: true,
            points: vec![[1.0, 0.12], [10.0, 0.19], [50.0, 0.61]],
        }],
    };
    let step = ["start", "wrote 1"];
    let maps = (1..=15).map(|n| format!("/usr/lib/lib{n}.so"));
    let ledger = maps.enumerate().map(|(n, name)| {
        let pages = n as u64 + 1;
        let copied = Explained { copy: pages.cast_signed(), ..Explained::default() };
        row(step, 201, &name, [0, pages * 4], copied)
    });
    let points = (0..=12u32).map(|n| {
        let copied = u64::from(n) * 340;
        let processes = vec![
            process(201, "parent", Some(heap(4096, 4096 - copied, copied)), "c"),
            process(202, "child", Some(heap(4096, 4096 - copied, copied)), ""),
        ];
        checkpoint(&format!("wrote {n}"), processes)
    });
    ExperimentReport {
        source: "beyond the sources",
        title: "Random writes under a long-lived child come close to a whole copy",
        duration_ms: 2345,
        size_bytes: Some(4 << 20),
        tables: vec![Figures {
            title: "Medians of 100 forks".into(),
            columns: ["memory", "nothing written, ms", "all written, ms"].map(str::to_owned).to_vec(),
            rows: vec![
                ["1 MiB", "0.12", "0.71"].map(str::to_owned).to_vec(),
                ["50 MiB", "0.61", "31.2"].map(str::to_owned).to_vec(),
            ],
        }],
        curves: vec![curve, timing],
        ledger: ledger.collect(),
        checkpoints: points.collect(),
        ..experiment("worst-case", claims.into_list())
    }
}

/// A report with every element.
pub(super) fn report() -> LabReport {
    LabReport {
        schema: SCHEMA,
        kernel: json!({"release": "6.18.1", "arch": "x86_64", "page_size": 4096}),
        backend: json!({"name": "tracepoint", "blind_to": ["gup", "pinned"]}),
        interrupted_by: None,
        selected: 3,
        experiments: vec![no_heap(), child_writes(), worst_case()],
    }
}

/// The same, ended by Ctrl-C before the third experiment was whole.
pub(super) fn interrupted() -> LabReport {
    let mut report = report();
    report.experiments.truncate(1);
    LabReport { interrupted_by: Some(Signal::SIGINT), ..report }
}
