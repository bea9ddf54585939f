//! Small families whose every page is known: the ledger must balance for them, and must not when an event is
//! wrong.

use cowtrace_abi::Kind;

use super::*;
use crate::proc::{AnonPage, Vma};

const PAGE: u64 = 4096;
const PARENT: u32 = 1;
const CHILD: u32 = 2;
const GRANDCHILD: u32 = 3;
/// First page of the mapping that most tests are about.
const HEAP: u64 = 0x100;

/// A process with one mapping, 100 pages long, of which these are resident: (index, frame, mapped once).
fn process(pid: u32, pages: impl IntoIterator<Item = (u64, u64, bool)>) -> Snapshot {
    with_vma(pid, "[heap]", HEAP, 100, pages)
}

fn with_vma(
    pid: u32,
    name: &str,
    first: u64,
    length: u64,
    pages: impl IntoIterator<Item = (u64, u64, bool)>,
) -> Snapshot {
    let anon: Vec<AnonPage> = pages
        .into_iter()
        .map(|(index, frame, mapped_once)| AnonPage { page: first + index, frame, mapped_once })
        .collect();
    let private = anon.iter().filter(|page| page.mapped_once).count() as u64;
    let vma = Vma {
        start: first * PAGE,
        end: (first + length) * PAGE,
        name: name.into(),
        perms: "rw-p".into(),
        private_dirty_kb: private * 4,
        ordinary: true,
        ..Vma::default()
    };
    Snapshot { pid, page_size: PAGE, vmas: vec![vma], anon }
}

/// `count` pages with frames from `frame` on.
fn run(count: u64, frame: u64, mapped_once: bool) -> impl Iterator<Item = (u64, u64, bool)> {
    (0..count).map(move |index| (index, frame + index, mapped_once))
}

fn faults(pid: u32, kind: Kind, indexes: std::ops::Range<u64>) -> FamilyEvent {
    let pages: Vec<u64> = indexes.map(|index| HEAP + index).collect();
    let faults = pages.len() as u64;
    FamilyEvent::Pages { pid, kind, pages, faults }
}

const FORK: FamilyEvent = FamilyEvent::Fork { parent: PARENT, child: CHILD };

/// The only row of a process.
fn row(rows: &[Row], pid: u32) -> &Row {
    let mut own = rows.iter().filter(|row| row.pid == pid);
    let row = own.next().unwrap_or_else(|| panic!("no row for {pid} in {rows:#?}"));
    assert_eq!(own.next(), None);
    row
}

fn residuals(rows: &[Row]) -> Vec<(u32, i64)> {
    rows.iter().map(|row| (row.pid, row.residual_pages)).filter(|(_, residual)| *residual != 0).collect()
}

#[test]
fn first_touches_are_anon() {
    let rows = explain(
        &[process(PARENT, [])],
        &[faults(PARENT, Kind::Anon, 0..17)],
        &[process(PARENT, run(17, 500, true))],
        Known::default(),
    );
    let row = row(&rows, PARENT);
    assert_eq!(row.region, "[heap]");
    assert_eq!(row.private_dirty_kb, [0, 68]);
    assert_eq!(row.explained_pages, Explained { anon: 17, ..Explained::default() });
    assert_eq!(row.residual_pages, 0);
}

#[test]
fn a_missed_first_touch_is_left_over() {
    let rows = explain(
        &[process(PARENT, [])],
        &[faults(PARENT, Kind::Anon, 0..16)],
        &[process(PARENT, run(17, 500, true))],
        Known::default(),
    );
    assert_eq!(residuals(&rows), [(PARENT, 1)]);
}

#[test]
fn fork_gives_up_private_pages_and_the_child_has_none() {
    let rows = explain(
        &[process(PARENT, run(17, 500, true))],
        &[FORK],
        &[process(PARENT, run(17, 500, false)), process(CHILD, run(17, 500, false))],
        Known::default(),
    );
    assert_eq!(rows.len(), 1, "the child's heap never had a private page");
    let row = row(&rows, PARENT);
    assert_eq!(row.private_dirty_kb, [68, 0]);
    assert_eq!(row.explained_pages, Explained { given_up: -17, ..Explained::default() });
    assert_eq!(row.residual_pages, 0);
}

fn shared() -> [Snapshot; 2] {
    [process(PARENT, run(17, 500, false)), process(CHILD, run(17, 500, false))]
}

fn unshared() -> [Snapshot; 2] {
    [process(PARENT, run(17, 500, true)), process(CHILD, run(17, 900, true))]
}

#[test]
fn one_sided_writes_make_both_private() {
    let rows = explain(&shared(), &[faults(CHILD, Kind::Copy, 0..17)], &unshared(), Known::default());
    assert_eq!(row(&rows, CHILD).explained_pages, Explained { copy: 17, ..Explained::default() });
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { unshared_by_others: 17, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn a_missed_copy_is_left_over_on_both_sides() {
    let rows = explain(&shared(), &[faults(CHILD, Kind::Copy, 0..16)], &unshared(), Known::default());
    assert_eq!(residuals(&rows), [(PARENT, 1), (CHILD, 1)]);
}

#[test]
fn a_doubled_copy_is_left_over() {
    let events = [faults(CHILD, Kind::Copy, 0..17), faults(CHILD, Kind::Copy, 5..6)];
    let rows = explain(&shared(), &events, &unshared(), Known::default());
    assert_eq!(residuals(&rows), [(CHILD, -1)]);
}

#[test]
fn a_copy_where_none_was_due_is_left_over() {
    // The child's copy left the page to the parent, whose write was a reuse: its frame is the old one.
    let events = [faults(CHILD, Kind::Copy, 0..17), faults(PARENT, Kind::Copy, 16..17)];
    assert_eq!(residuals(&explain(&shared(), &events, &unshared(), Known::default())), [(PARENT, -1)]);
}

#[test]
fn a_page_private_from_the_start_is_copied_only_if_its_frame_changed() {
    let before = [process(PARENT, run(2, 500, true))];
    let copied = faults(PARENT, Kind::Copy, 0..1);
    let same = explain(
        &before,
        std::slice::from_ref(&copied),
        &[process(PARENT, run(2, 500, true))],
        Known::default(),
    );
    assert_eq!(residuals(&same), [(PARENT, -1)], "nothing happened to the page");
    let changed =
        explain(&before, &[copied], &[process(PARENT, [(0, 700, true), (1, 501, true)])], Known::default());
    assert_eq!(residuals(&changed), []);
    assert_eq!(
        row(&changed, PARENT).explained_pages,
        Explained { copy: 1, unmapped: -1, ..Explained::default() }
    );
}

#[test]
fn a_whole_life_in_one_interval_adds_up() {
    let events = [
        faults(PARENT, Kind::Anon, 0..17),
        FORK,
        faults(CHILD, Kind::Copy, 0..10),
        faults(PARENT, Kind::Copy, 10..17),
        faults(PARENT, Kind::Reuse, 0..10),
    ];
    let parent = (0..17).map(|index| (index, if index < 10 { 500 } else { 600 } + index, true));
    let child = (0..17).map(|index| (index, if index < 10 { 700 } else { 500 } + index, true));
    let rows = explain(
        &[process(PARENT, [])],
        &events,
        &[process(PARENT, parent), process(CHILD, child)],
        Known::default(),
    );
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { anon: 17, given_up: -17, copy: 7, unshared_by_others: 10, ..Explained::default() }
    );
    assert_eq!(
        row(&rows, CHILD).explained_pages,
        Explained { copy: 10, unshared_by_others: 7, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn exit_leaves_the_pages_to_the_others() {
    // 100 shared pages: the parent writes 30, the child exits, the parent writes the rest without a copy.
    let before = [process(PARENT, run(100, 500, false)), process(CHILD, run(100, 500, false))];
    let events = [
        faults(PARENT, Kind::Copy, 0..30),
        FamilyEvent::Exit { pid: CHILD },
        faults(PARENT, Kind::Reuse, 30..100),
    ];
    let rows = explain(&before, &events, &[process(PARENT, run(100, 800, true))], Known::default());
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { copy: 30, unshared_by_others: 70, ..Explained::default() }
    );
    // The child's 30, private since the parent's copies, went with it: from 0 to 30 to 0.
    assert_eq!(
        row(&rows, CHILD).explained_pages,
        Explained { unshared_by_others: 30, unmapped: -30, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
    let missed = [events[0].clone(), events[2].clone()];
    let rows = explain(&before, &missed, &[process(PARENT, run(100, 800, true))], Known::default());
    assert_eq!(residuals(&rows), [(PARENT, 70), (CHILD, -30)]);
}

#[test]
fn a_copy_instead_of_a_reuse_replaces_a_private_page() {
    let before = [process(PARENT, run(4, 500, false)), process(CHILD, run(4, 500, false))];
    let events = [FamilyEvent::Exit { pid: CHILD }, faults(PARENT, Kind::Copy, 0..1)];
    let after = [process(PARENT, [(0, 700, true), (1, 501, true), (2, 502, true), (3, 503, true)])];
    let rows = explain(&before, &events, &after, Known::default());
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { unshared_by_others: 4, copy: 1, unmapped: -1, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn three_generations_share_until_two_have_copied() {
    let before = [
        process(PARENT, run(10, 500, false)),
        process(CHILD, run(10, 500, false)),
        process(GRANDCHILD, run(10, 500, false)),
    ];
    let one = [faults(GRANDCHILD, Kind::Copy, 0..10)];
    let after = [
        process(PARENT, run(10, 500, false)),
        process(CHILD, run(10, 500, false)),
        process(GRANDCHILD, run(10, 900, true)),
    ];
    let rows = explain(&before, &one, &after, Known::default());
    assert_eq!(rows.len(), 1, "parent and child still share");
    assert_eq!(residuals(&rows), []);
    let two = [faults(CHILD, Kind::Copy, 0..10)];
    let last = [
        process(PARENT, run(10, 500, true)),
        process(CHILD, run(10, 700, true)),
        process(GRANDCHILD, run(10, 900, true)),
    ];
    let rows = explain(&after, &two, &last, Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages.unshared_by_others, 10);
    assert_eq!(row(&rows, CHILD).explained_pages.copy, 10);
    assert_eq!(residuals(&rows), []);
}

#[test]
fn a_short_lived_child_leaves_only_its_effect() {
    let before = [process(PARENT, run(5, 500, true))];
    let events = [FORK, faults(CHILD, Kind::Copy, 0..2), FamilyEvent::Exit { pid: CHILD }];
    let rows = explain(&before, &events, &before, Known::default());
    assert_eq!(rows.len(), 1);
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { given_up: -5, unshared_by_others: 5, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn a_missed_fork_is_left_over() {
    let rows = explain(
        &[process(PARENT, run(17, 500, true))],
        &[faults(CHILD, Kind::Copy, 0..16)],
        &[process(PARENT, run(17, 500, false)), process(CHILD, run(17, 900, true))],
        Known::default(),
    );
    assert_eq!(residuals(&rows), [(PARENT, -17), (CHILD, 1)]);
}

#[test]
fn memory_not_copied_at_fork_stays_private() {
    let mut parent = process(PARENT, run(8, 500, true));
    parent.vmas[0].lost_at_fork = true;
    let rows = explain(&[parent.clone()], &[FORK], &[parent, process(CHILD, [])], Known::default());
    assert_eq!(rows.len(), 1);
    assert!(row(&rows, PARENT).explained_pages.is_empty());
    assert_eq!(residuals(&rows), []);
}

#[test]
fn unmapped_discarded_and_replaced_pages_are_negative() {
    let before = [process(PARENT, run(10, 500, true))];
    let discarded = explain(&before, &[], &[process(PARENT, run(6, 500, true))], Known::default());
    assert_eq!(row(&discarded, PARENT).explained_pages, Explained { unmapped: -4, ..Explained::default() });
    assert_eq!(residuals(&discarded), []);

    let shrunk =
        explain(&before, &[], &[with_vma(PARENT, "[heap]", HEAP, 6, run(6, 500, true))], Known::default());
    assert_eq!(row(&shrunk, PARENT).explained_pages, Explained { unmapped: -4, ..Explained::default() });
    assert_eq!(residuals(&shrunk), []);

    let gone = explain(&before, &[], &[with_vma(PARENT, "", 0x900, 1, [])], Known::default());
    assert_eq!(row(&gone, PARENT).private_dirty_kb, [40, 0]);
    assert_eq!(residuals(&gone), []);
}

#[test]
fn a_partner_that_unmaps_leaves_the_page_to_the_other() {
    let rows = explain(
        &shared(),
        &[],
        &[process(PARENT, run(17, 500, true)), with_vma(CHILD, "", 0x900, 1, [])],
        Known::default(),
    );
    assert_eq!(rows.len(), 1);
    assert_eq!(row(&rows, PARENT).explained_pages.unshared_by_others, 17);
    assert_eq!(residuals(&rows), []);
}

#[test]
fn every_own_kind_has_its_column() {
    let events = [
        faults(PARENT, Kind::Zero, 0..1),
        faults(PARENT, Kind::FileAfterRead, 1..3),
        faults(PARENT, Kind::FileFirstWrite, 3..5),
        faults(PARENT, Kind::Ksm, 5..8),
        faults(PARENT, Kind::Anon, 8..12),
        faults(PARENT, Kind::Denied, 20..24),
        faults(PARENT, Kind::Shared, 20..24),
        faults(PARENT, Kind::HugetlbReuse, 20..24),
    ];
    let rows =
        explain(&[process(PARENT, [])], &events, &[process(PARENT, run(12, 500, true))], Known::default());
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { zero: 1, file: 4, ksm: 3, anon: 4, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn merged_pages_of_one_process_are_one_frame() {
    let before = [process(PARENT, [(0, 500, false), (1, 500, false), (2, 500, false)])];
    let events = [faults(PARENT, Kind::Ksm, 0..2)];
    let rows = explain(
        &before,
        &events,
        &[process(PARENT, [(0, 1, true), (1, 2, true), (2, 500, true)])],
        Known::default(),
    );
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { ksm: 2, unshared_by_others: 1, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn exec_starts_anew() {
    let before = [process(PARENT, run(3, 500, false)), process(CHILD, run(3, 500, false))];
    let events =
        [faults(CHILD, Kind::Copy, 0..1), FamilyEvent::Exec { pid: CHILD }, faults(CHILD, Kind::Anon, 0..2)];
    // The new program's mapping happens to lie where the old one was.
    let after = [process(PARENT, run(3, 500, true)), with_vma(CHILD, "[stack]", HEAP, 50, run(2, 900, true))];
    let rows = explain(&before, &events, &after, Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages.unshared_by_others, 3);
    let child: Vec<_> = rows.iter().filter(|row| row.pid == CHILD).collect();
    assert_eq!(child[0].region, "[heap]");
    assert_eq!(child[0].explained_pages, Explained { copy: 1, unmapped: -1, ..Explained::default() });
    assert_eq!(child[1].region, "[stack]");
    assert_eq!(child[1].explained_pages, Explained { anon: 2, ..Explained::default() });
    assert_eq!(residuals(&rows), []);
}

#[test]
fn page_cache_pages_are_no_events() {
    let side = |private_dirty_kb, cache_private_dirty_kb| {
        let mut process = with_vma(PARENT, "/lib/data.so", HEAP, 10, []);
        process.vmas[0].private_dirty_kb = private_dirty_kb;
        process.vmas[0].cache_private_dirty_kb = cache_private_dirty_kb;
        process
    };
    // Three dirty cache pages; one is written by the process, one is mapped by somebody else now.
    let rows = explain(
        &[side(12, 12)],
        &[faults(PARENT, Kind::FileAfterRead, 0..1)],
        &[side(8, 4)],
        Known::default(),
    );
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { file: 1, page_cache: -2, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
    let missed = explain(&[side(12, 12)], &[], &[side(8, 4)], Known::default());
    assert_eq!(residuals(&missed), [(PARENT, 1)]);
}

#[test]
fn frames_mapped_outside_the_family_are_not_private() {
    let rows = explain(
        &[process(CHILD, run(4, 500, false))],
        &[faults(CHILD, Kind::Copy, 0..4)],
        &[process(CHILD, run(4, 900, true))],
        Known::default(),
    );
    assert_eq!(row(&rows, CHILD).explained_pages, Explained { copy: 4, ..Explained::default() });
    assert_eq!(residuals(&rows), []);
}

#[test]
fn events_in_no_mapping_must_cancel_out() {
    let alone = [process(PARENT, [])];
    let stray = explain(&alone, &[faults(PARENT, Kind::Anon, 500..503)], &alone, Known::default());
    // First touches of a mapping that is gone again.
    assert_eq!(residuals(&stray), []);
    let doubled = [faults(PARENT, Kind::Anon, 500..503), faults(PARENT, Kind::Anon, 500..501)];
    let rows = explain(&alone, &doubled, &alone, Known::default());
    assert_eq!(row(&rows, PARENT).region, NO_MAPPING);
    assert_eq!(residuals(&rows), [(PARENT, -1)]);
}

#[test]
fn strangers_have_no_rows() {
    let alone = [process(PARENT, run(1, 500, true))];
    let events = [
        FamilyEvent::Fork { parent: 70, child: 71 },
        faults(71, Kind::Anon, 0..3),
        faults(71, Kind::Anon, 0..3),
        FamilyEvent::Exec { pid: 71 },
        FamilyEvent::Exit { pid: 71 },
    ];
    let rows = explain(&alone, &events, &alone, Known::default());
    assert_eq!(rows.iter().map(|row| row.pid).collect::<Vec<_>>(), [PARENT]);
    assert_eq!(residuals(&rows), []);
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let before = [process(PARENT, run(4, 500, false)), process(CHILD, run(4, 500, false))];
    let events = [FamilyEvent::Exit { pid: CHILD }, FORK, faults(CHILD, Kind::Copy, 0..4)];
    let rows = explain(
        &before,
        &events,
        &[process(PARENT, run(4, 500, true)), process(CHILD, run(4, 900, true))],
        Known::default(),
    );
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { unshared_by_others: 8, given_up: -4, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

const VFORK: FamilyEvent = FamilyEvent::Vfork { parent: PARENT, child: CHILD };

#[test]
fn a_child_of_vfork_touches_its_parents_memory() {
    let before = [process(PARENT, run(4, 500, true))];
    let after = [process(PARENT, run(7, 500, true))];
    let until_exec = [VFORK, faults(CHILD, Kind::Anon, 4..7), FamilyEvent::Exec { pid: CHILD }];
    // The same addresses, in a program of its own.
    let as_program = [faults(CHILD, Kind::Anon, 2..6), FamilyEvent::Exit { pid: CHILD }];
    let rows = explain(&before, &[&until_exec[..], &as_program[..]].concat(), &after, Known::default());
    assert_eq!(rows.len(), 1, "the program is none of the family");
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { anon: 3, ..Explained::default() });
    assert_eq!(residuals(&rows), []);

    let without_exec = [VFORK, faults(CHILD, Kind::Anon, 4..7), FamilyEvent::Exit { pid: CHILD }];
    let rows = explain(&before, &without_exec, &after, Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { anon: 3, ..Explained::default() });
    assert_eq!(residuals(&rows), [], "the parent's pages outlive the guest");

    let as_fork = [FORK, faults(CHILD, Kind::Anon, 4..7), FamilyEvent::Exit { pid: CHILD }];
    let rows = explain(&before, &as_fork, &after, Known::default());
    assert_eq!(residuals(&rows), [(PARENT, 3)], "a child of fork has memory of its own");
}

#[test]
fn a_child_of_vfork_copies_for_its_parent() {
    // The parent shares with a child of an earlier fork, and has a guest that writes: the copies are the
    // parent's.
    let before = [process(PARENT, run(4, 500, false)), process(CHILD, run(4, 500, false))];
    let events = [
        FamilyEvent::Vfork { parent: PARENT, child: GRANDCHILD },
        faults(GRANDCHILD, Kind::Copy, 0..3),
        FamilyEvent::Exec { pid: GRANDCHILD },
    ];
    let copied = run(3, 900, true).chain([(3, 503, false)]);
    let kept = run(3, 500, true).chain([(3, 503, false)]);
    let rows = explain(&before, &events, &[process(PARENT, copied), process(CHILD, kept)], Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { copy: 3, ..Explained::default() });
    assert_eq!(
        row(&rows, CHILD).explained_pages,
        Explained { unshared_by_others: 3, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}
