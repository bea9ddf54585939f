//! Forks and copies: who has a page alone, and through whose doing.

use super::*;

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

/// pagemap's word for the pages of a huge page is that of the first one: smaps knows better, and so do the others that
/// map them.
#[test]
fn a_frame_that_two_have_is_shared_whatever_pagemap_calls_it() {
    let mut parent = process(PARENT, run(17, 500, true));
    parent.vmas[0].private_dirty_kb = 0;
    let before = [parent, process(CHILD, run(17, 500, false))];
    let written = |frame: u64, rest: u64| {
        (0..17).map(move |i| if i == 3 { (i, frame, true) } else { (i, rest + i, false) })
    };
    let after = [process(PARENT, written(900, 500)), process(CHILD, written(503, 500))];
    let rows = explain(&before, &[faults(PARENT, Kind::Copy, 3..4)], &after, Known::default());
    assert_eq!(
        row(&rows, CHILD).explained_pages,
        Explained { unshared_by_others: 1, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}
