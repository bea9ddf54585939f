//! What users see of a comparison, held by snapshots.

use super::{Style, diff, human_tests, json};
use crate::{
    diff::diff as compare,
    model::{RegionFaults, Report, Stack, StackFrames, StackKind, Stacks},
};

const WIDE: Style = Style { color: false, width: 100 };

/// The second run: twice as long, with one process more, other mappings, and fewer copies.
fn after() -> Report {
    let mut after = human_tests::report();
    after.duration_ns *= 2;
    after.command[0] = "/opt/bin/server".to_owned();
    after.processes[1].faults.copy = Some(347);
    after.processes[1].copied_bytes = Some(350 * 4096);
    after.processes[1].regions[0].faults.copy = Some(345);
    after.processes[1].regions[1].faults.file = Some(0);
    let mut worker = human_tests::process(3, Some(1), human_tests::faults(20, 7, 0, 0, 0), Vec::new());
    worker.comm = "worker".to_owned();
    after.processes.push(worker);
    after
}

fn screen(a: &Report, b: &Report, style: Style, top: usize) -> String {
    diff(&compare(("before.cowtrace", a), ("after.json", b)), &style, top)
}

#[test]
fn fewer_copies() {
    insta::assert_snapshot!(screen(&human_tests::report(), &after(), WIDE, 20));
}

#[test]
fn stacks_name_who_wrote_first() {
    let stack = |count: u64, frames: &[&str]| Stack {
        pid: 2,
        comm: "python3".into(),
        kind: StackKind::Copy,
        count,
        frames: frames.iter().map(|&name| name.into()).collect(),
    };
    let with = |stacks: Vec<Stack>| Report {
        stacks: Some(Stacks { stacks, stack_frames: StackFrames::default() }),
        ..human_tests::report()
    };
    let a = with(vec![
        stack(9000, &["_start", "main", "py::serve:/srv/app.py", "gc_collect_main"]),
        stack(40, &["_start", "main", "py::serve:/srv/app.py", "list_iter", "a_function_with_a_long_name"]),
        stack(1, &[]),
    ]);
    let b = with(vec![stack(10, &["_start", "main", "py::serve:/srv/app.py", "gc_collect_main"])]);
    insta::assert_snapshot!(screen(&a, &b, WIDE, 20));
}

#[test]
fn a_run_that_only_took_longer_does_not_differ() {
    let mut longer = after();
    longer.duration_ns += 7_000_000;
    // A mapping without any counts is in one of them only.
    let faults = human_tests::faults(0, 0, 0, 1, 1);
    let heap = longer.processes[1].regions[0].clone();
    longer.processes[1].regions.push(RegionFaults { name: "[stack]".into(), faults, ..heap });
    let text = screen(&after(), &longer, WIDE, 20);
    assert!(text.contains("copies per second") && text.ends_with("\n\nno difference\n"), "{text}");
}

#[test]
fn no_difference() {
    insta::assert_snapshot!(screen(&after(), &after(), WIDE, 20));
}

#[test]
fn unknown_figures_and_warnings() {
    let mut b = after();
    b.backend.name = "kprobe".to_owned();
    b.exit_status = Some(139);
    b.processes.iter_mut().for_each(|process| {
        (process.faults.copy, process.copied_bytes) = (None, None);
        process.regions.clear();
    });
    insta::assert_snapshot!(screen(&human_tests::report(), &b, Style { color: false, width: 80 }, 1));
}

#[test]
fn colours_come_only_when_asked_for() {
    let coloured = screen(&human_tests::report(), &after(), Style { color: true, ..WIDE }, 20);
    assert!(coloured.contains("\x1b["));
    assert!(!screen(&human_tests::report(), &after(), WIDE, 20).contains('\x1b'));
}

#[test]
fn json_follows_the_contract() {
    let compared = compare(("before.cowtrace", &human_tests::report()), ("after.json", &after()));
    insta::assert_snapshot!(String::from_utf8(json(&compared).unwrap()).unwrap());
}
