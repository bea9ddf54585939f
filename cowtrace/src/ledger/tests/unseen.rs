//! What no event tells: pages merged by KSM, and pages that a fork copied because they were pinned.

use super::*;

/// The process, with these frames being KSM's.
fn merged(mut process: Snapshot, frames: &[u64]) -> Snapshot {
    for page in &mut process.anon {
        page.merged = frames.contains(&page.frame);
    }
    process
}

/// `count` pages with one frame for all of them.
fn same(count: u64, frame: u64) -> impl Iterator<Item = (u64, u64, bool)> {
    (0..count).map(move |index| (index, frame, count == 1))
}

#[test]
fn merged_pages_cease_to_be_private() {
    let before = [process(PARENT, run(10, 500, true))];
    let after = [merged(process(PARENT, same(10, 503)), &[503])];
    let rows = explain(&before, &[], &after, Known::default());
    assert_eq!(row(&rows, PARENT).private_dirty_kb, [40, 0]);
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { merged: -10, ..Explained::default() });
    assert_eq!(residuals(&rows), []);
    // The same frames, had KSM nothing to do with it.
    let unexplained = explain(&before, &[], &[process(PARENT, same(10, 503))], Known::default());
    assert_eq!(residuals(&unexplained), [(PARENT, -10)]);
}

#[test]
fn pages_touched_and_merged_in_one_interval_add_up() {
    let after = [merged(process(PARENT, same(5, 500)), &[500])];
    let events = [faults(PARENT, Kind::Anon, 0..5)];
    let rows = explain(&[process(PARENT, [])], &events, &after, Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { anon: 5, merged: -5, ..Explained::default() });
    assert_eq!(residuals(&rows), []);
}

#[test]
fn the_last_merged_page_is_alone_before_it_is_copied() {
    let before = [merged(process(PARENT, same(3, 500)), &[500])];
    let after = [process(PARENT, run(3, 900, true))];
    let rows = explain(&before, &[faults(PARENT, Kind::Ksm, 0..3)], &after, Known::default());
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { ksm: 3, unshared_by_others: 1, unmapped: -1, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn a_ksm_copy_that_was_none_is_left_over() {
    let before = [merged(process(PARENT, same(3, 500)), &[500])];
    let twice = [faults(PARENT, Kind::Ksm, 0..3), faults(PARENT, Kind::Ksm, 1..2)];
    let rows = explain(&before, &twice, &[process(PARENT, run(3, 900, true))], Known::default());
    assert_eq!(residuals(&rows), [(PARENT, -1)]);
    // The page is still on the KSM frame.
    let rows = explain(&before, &[faults(PARENT, Kind::Ksm, 0..1)], &before, Known::default());
    assert_eq!(residuals(&rows), [(PARENT, -1)]);
}

#[test]
fn merging_leaves_shared_pages_to_the_others() {
    let before = [process(PARENT, run(4, 500, false)), process(CHILD, run(4, 500, false))];
    // Pages 0 and 1 are merged in the parent only.
    let parent = [(0, 900, false), (1, 900, false), (2, 502, false), (3, 503, false)];
    let child = (0..4).map(|index| (index, 500 + index, index < 2));
    let after = [merged(process(PARENT, parent), &[900]), process(CHILD, child)];
    let rows = explain(&before, &[], &after, Known::default());
    assert_eq!(rows.len(), 1);
    assert_eq!(
        row(&rows, CHILD).explained_pages,
        Explained { unshared_by_others: 2, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn a_shared_page_that_is_merged_in_both_moves_nothing() {
    let before = [process(PARENT, run(2, 500, false)), process(CHILD, run(2, 500, false))];
    let after = [PARENT, CHILD].map(|pid| merged(process(pid, [(0, 900, false), (1, 900, false)]), &[900]));
    assert_eq!(explain(&before, &[], &after, Known::default()), []);
}

#[test]
fn the_last_page_of_a_merger_can_have_company_again() {
    let before = [merged(process(PARENT, [(0, 500, true), (1, 700, true)]), &[500])];
    let after = [merged(process(PARENT, [(0, 500, false), (1, 500, false)]), &[500])];
    let rows = explain(&before, &[], &after, Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { merged: -2, ..Explained::default() });
    assert_eq!(residuals(&rows), []);
}

/// The first five pages of the heap.
fn pinned() -> Known {
    Known { pinned: HEAP * PAGE..(HEAP + 5) * PAGE, ..Known::default() }
}

/// The heap before the fork, and parent and child after it: the child has other frames for the first five pages.
fn pinned_fork() -> ([Snapshot; 1], [Snapshot; 2]) {
    let parent = (0..10).map(|index| (index, 500 + index, index < 5));
    let child = (0..10).map(|index| (index, if index < 5 { 900 } else { 500 } + index, index < 5));
    ([process(PARENT, run(10, 500, true))], [process(PARENT, parent), process(CHILD, child)])
}

#[test]
fn pinned_pages_are_the_childs_own_from_the_fork_on() {
    let (before, after) = pinned_fork();
    let rows = explain(&before, &[FORK], &after, pinned());
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { given_up: -5, ..Explained::default() });
    assert_eq!(row(&rows, CHILD).explained_pages, Explained { pinned: 5, ..Explained::default() });
    assert_eq!(residuals(&rows), []);
    // Nothing is taken for pinned that nobody says to be.
    let unknown = explain(&before, &[FORK], &after, Known::default());
    assert_eq!(residuals(&unknown), [(PARENT, 5), (CHILD, 5)]);
}

#[test]
fn pinned_is_no_excuse_for_pages_that_are_shared_or_copied_by_a_fault() {
    let (before, after) = pinned_fork();
    let copied = [FORK, faults(CHILD, Kind::Copy, 0..5)];
    assert_eq!(residuals(&explain(&before, &copied, &after, pinned())), [(CHILD, -5)]);
    let shared = [process(PARENT, run(10, 500, false)), process(CHILD, run(10, 500, false))];
    let rows = explain(&before, &[FORK], &shared, pinned());
    assert_eq!(row(&rows, PARENT).explained_pages.given_up, -10);
    assert_eq!(residuals(&rows), []);
}
