//! Kinds of pages and of faults, each in its column.

use super::*;

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
