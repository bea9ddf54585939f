//! Reports with known differences.

use super::{Diff, diff, process_name};
use crate::{
    export::human_tests::{faults, folded, process, report},
    model::{Lost, Process, Report, Stack, StackFrames, StackKind, Stacks},
};

fn compare(a: &Report, b: &Report) -> Diff {
    diff(("a", a), ("b", b))
}

fn named(comm: &str, cmdline: &[&str]) -> Process {
    let words = cmdline.iter().map(|&word| word.to_owned()).collect();
    Process { comm: comm.to_owned(), cmdline: words, ..process(1, None, faults(0, 0, 0, 0, 0), Vec::new()) }
}

#[test]
fn a_report_is_as_itself() {
    let same = compare(&report(), &report());
    assert!(same.same && same.warnings.is_empty());
    let rows = same.processes.iter().chain(&same.regions);
    assert!(rows.clone().count() == 3 && rows.clone().all(|row| row.figures.is_none()));
    assert_eq!(same.totals.copy.difference, Some(0));
    assert_eq!(same.copies_per_second.ratio, Some(1.0));
}

#[test]
fn processes_and_mappings_are_summed_by_name() {
    let (a, mut b) = (report(), report());
    b.processes.push(process(3, Some(1), faults(1000, 2, 0, 0, 0), b.processes[1].regions.clone()));
    let mut other = process(4, Some(1), faults(50_000, 0, 0, 0, 0), Vec::new());
    other.comm = "worker".to_owned();
    b.processes.push(other);
    b.duration_ns = 2 * a.duration_ns;
    let compared = compare(&a, &b);
    assert!(!compared.same);
    assert_eq!(compared.totals.copy.difference, Some(51_000));
    let names: Vec<_> = compared.processes.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["worker (server)", "server"], "the largest difference first");
    let server = &compared.processes[1];
    assert_eq!((server.count.a, server.count.b), (Some(2), Some(3)));
    assert_eq!((server.figures.copy.a, server.figures.copy.difference), (Some(12_347), Some(1000)));
    assert_eq!(server.figures.zero.ratio, Some(3.0));
    let worker = &compared.processes[0].figures.copy;
    assert_eq!((worker.a, worker.b, worker.ratio), (Some(0), Some(50_000), None));
    let heap = &compared.regions[0];
    assert_eq!((heap.name.as_str(), heap.figures.copy.difference), ("[heap]", Some(12_345)));
    assert_eq!(heap.figures.copied_bytes.difference, Some(12_345 * 4096));
    let rate = compared.copies_per_second;
    assert_eq!((rate.a, rate.b), (Some(12_347.0 / 1.5), Some(63_347.0 / 3.0)));
    assert_eq!(compare(&b, &a).totals.copy.difference, Some(-51_000));
}

#[test]
fn ended_processes_are_compared_by_name() {
    let (a, mut b) = (report(), report());
    b.folded = folded();
    b.folded[0].comm = "server".to_owned();
    let compared = compare(&a, &b);
    assert_eq!(compared.totals.copy.difference, Some(5_060_000));
    let row = |name: &str| compared.processes.iter().find(|row| row.name == name).unwrap();
    assert_eq!(
        (row("server").count.difference, row("server").figures.copy.difference),
        (Some(1_000_000), Some(5_000_000))
    );
    assert_eq!((row("true").count.b, row("true").figures.copy.b), (Some(20_000), Some(60_000)));
    assert!(
        compared.warnings.len() == 1 && compared.warnings[0].starts_with("B has 1020000 processes"),
        "{:?}",
        compared.warnings
    );
}

fn stack(pid: u32, kind: StackKind, count: u64, frames: &[&str]) -> Stack {
    let frames = frames.iter().map(|&name| name.into()).collect();
    Stack { pid, comm: "python3".into(), kind, count, frames }
}

fn with_stacks(stacks: Vec<Stack>) -> Report {
    Report { stacks: Some(Stacks { stacks, stack_frames: StackFrames::default() }), ..report() }
}

#[test]
fn stacks_are_summed_by_their_functions() {
    let serve = ["main", "serve"];
    let a = with_stacks(vec![
        stack(1, StackKind::Copy, 300, &["main", "gc_collect"]),
        stack(1, StackKind::Copy, 20, &serve),
        stack(1, StackKind::Zero, 5, &serve),
        stack(2, StackKind::Copy, 30, &serve),
    ]);
    let b = with_stacks(vec![stack(7, StackKind::Copy, 49, &serve), stack(8, StackKind::File, 2, &serve)]);
    let compared = compare(&a, &b);
    let names: Vec<_> = compared.stacks.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["python3;main;gc_collect", "python3;main;serve"]);
    assert_eq!(compared.stacks[0].figures.copy.difference, Some(-300));
    let served = &compared.stacks[1];
    assert_eq!((served.count.a, served.count.b), (Some(2), Some(2)));
    assert_eq!((served.figures.copy.a, served.figures.copy.b), (Some(50), Some(49)));
    assert_eq!((served.figures.zero.difference, served.figures.file.difference), (Some(-5), Some(2)));
    assert_eq!(served.figures.copied_bytes.b, Some(51 * 4096));
    assert!(compare(&a, &a).same);
    let without = compare(&a, &report());
    assert!(!without.same && without.stacks.is_empty());
    assert_eq!(without.warnings, ["B has no stacks (--stacks): they are not compared"]);
}

#[test]
fn what_one_side_does_not_know_is_null() {
    let (a, mut b) = (report(), report());
    for process in &mut b.processes {
        process.faults.copy = None;
        process.comm = "renamed".to_owned();
    }
    let compared = compare(&a, &b);
    assert!(!compared.same);
    assert_eq!((compared.totals.copy.a, compared.totals.copy.difference), (Some(12_347), None));
    assert_eq!((compared.copies_per_second.b, compared.copies_per_second.ratio), (None, None));
    assert!(
        compared.processes.len() == 2 && compared.processes.iter().all(|row| row.figures.copy.b.is_none())
    );
    assert!(compare(&b, &b).same);
}

#[test]
fn names_tell_the_program_where_the_command_name_does_not() {
    for (comm, cmdline, name) in [
        ("sh", &["sh", "-c", "x"][..], "sh"),
        ("sh", &["/bin/sh"], "sh"),
        ("bash", &["-bash"], "bash"),
        ("cowtrace-worklo", &["target/cowtrace-workload", "reuse"], "cowtrace-workload"),
        ("build.sh", &["/bin/sh", "./build.sh"], "build.sh (sh)"),
        ("bgsave", &["redis-server"], "bgsave (redis-server)"),
        ("kworker", &[], "kworker"),
        ("puma", &["puma: cluster worker 0: 28729 [app]"], "puma"),
        ("puma", &["puma 5.6.5 (tcp://127.0.0.1:8008) [app]"], "puma"),
        ("postgres", &["postgres: checkpointer "], "postgres"),
        ("chrome", &["/usr/lib/chrome/chrome --type=renderer"], "chrome"),
        ("php-fpm8.2", &["php-fpm: pool www"], "php-fpm8.2 (php-fpm)"),
    ] {
        assert_eq!(process_name(&named(comm, cmdline)), name);
    }
}

#[test]
fn what_cannot_be_compared_is_warned_of() {
    let (a, mut b) = (report(), report());
    b.kernel.page_size = 16_384;
    b.backend.name = "fentry".to_owned();
    b.backend.blind_to.clear();
    b.complete = false;
    b.lost = Lost { events: 3, regions: 2, ..Lost::default() };
    b.processes.iter_mut().for_each(|process| process.regions.clear());
    let compared = compare(&a, &b);
    assert!(compared.regions.is_empty() && !compared.same);
    insta::assert_snapshot!(compared.warnings.join("\n"));
}
