//! Counting, its bounds, and what the report has of it.

use cowtrace_abi::Kind;

use super::*;
use crate::model::{Faults, RegionFaults};

const PAGE: u64 = 4096;

fn batch(kind: Kind, window: u64, bitmap: u64) -> PageBatch {
    PageBatch {
        id: 1,
        kind,
        window,
        epoch: 0,
        bitmap,
        faults: u64::from(bitmap.count_ones()),
        span: 0,
        first_ns: 0,
        last_ns: 50,
        vma: None,
        remote: false,
        unplaced: false,
    }
}

fn counts() -> PageCounts {
    PageCounts::new(1 << 20, 512)
}

fn hits(counts: &PageCounts) -> Vec<(u64, u32, u32)> {
    let map = counts.of(1).unwrap();
    map.pages().map(|(page, hits)| (page, hits.copies, hits.replacements)).collect()
}

fn summary(counts: &PageCounts, sharing: &Sharing) -> ProcessPages {
    let faults = Faults { copy: Some(9), ..Faults::default() };
    let region = |start: u64, end: u64, name: &str| RegionFaults {
        start: start * PAGE,
        end: end * PAGE,
        perms: "rw-p".into(),
        name: name.into(),
        faults,
    };
    let regions = [region(0, 100, "[heap]"), region(100, 5000, "")];
    Summary::new(PAGE).of(counts.of(1).unwrap(), &regions, sharing, true)
}

#[test]
fn each_page_has_its_own_counts() {
    let mut counts = counts();
    counts.count(&batch(Kind::Copy, 1, 0b111));
    counts.count(&batch(Kind::Copy, 1, 0b010));
    counts.count(&batch(Kind::FileFirstWrite, 1, 0b1010));
    counts.count(&batch(Kind::Reuse, 1, u64::MAX));
    assert_eq!(hits(&counts), [(64, 1, 0), (65, 2, 1), (66, 1, 0), (67, 0, 1)]);
    let map = counts.of(1).unwrap();
    assert_eq!((map.copies(), map.replacements, map.overflow, map.unplaced), (4, 2, 0, 0));
}

#[test]
fn memory_of_others_and_unknown_pages_are_no_pages_of_this_process() {
    let mut counts = counts();
    counts.count(&PageBatch { remote: true, ..batch(Kind::Copy, 1, 0b11) });
    counts.count(&PageBatch { unplaced: true, faults: 7, ..batch(Kind::Copy, 1, 1) });
    assert_eq!(hits(&counts), []);
    assert_eq!(counts.of(1).unwrap().unplaced, 9);
}

#[test]
fn a_huge_page_is_one_page_wherever_it_is_written_to() {
    let mut counts = counts();
    counts.count(&batch(Kind::Hugetlb, 8, 1));
    counts.count(&batch(Kind::Hugetlb, 15, 1 << 63));
    counts.count(&batch(Kind::Hugetlb, 16, 1 << 5));
    assert_eq!(hits(&counts), [(512, 0, 2), (1024, 0, 1)]);
}

#[test]
fn pages_beyond_the_bound_are_counted_as_lost() {
    let mut counts = PageCounts::new(100, 512);
    counts.count(&batch(Kind::Copy, 0, u64::MAX));
    counts.count(&batch(Kind::Copy, 1, u64::MAX));
    counts.count(&PageBatch { id: 2, ..batch(Kind::Copy, 0, 0b11) });
    // What has its place goes on being counted.
    counts.count(&batch(Kind::Copy, 0, 1));
    let map = counts.of(1).unwrap();
    assert_eq!((map.copies(), map.overflow, counts.lost()), (101, 28, 30));
    assert_eq!((map.pages().count(), map.pages().map(|(_, hits)| hits.copies).sum::<u32>()), (100, 101));
    assert_eq!(map.pages().last().map(|(page, _)| page), Some(99));
    assert_eq!(counts.of(2).unwrap().overflow, 2);
}

#[test]
fn scattered_pages_stay_within_their_memory() {
    let pages = 100_000;
    let mut counts = PageCounts::new(pages, 512);
    for window in 0..pages {
        counts.count(&batch(Kind::Copy, window * 7, 1));
    }
    let map = counts.of(1).unwrap();
    assert_eq!(map.windows.len() as u64, (pages * BYTES_PER_PAGE - PROCESS_BYTES) / WINDOW_BYTES);
    assert_eq!(map.copies() + counts.lost(), pages);
}

#[test]
fn a_page_takes_no_more_than_sixteen_bytes() {
    let mut counts = counts();
    let bytes = counts.room.bytes;
    for (times, most) in [(1, 3), (2, 7), (9, 7)] {
        for _ in 0..times {
            (0..1000).for_each(|window| counts.count(&batch(Kind::Copy, window, u64::MAX)));
        }
        let taken = (bytes - counts.room.bytes) as f64 / 64_000.0;
        assert!(taken <= f64::from(most), "{taken} bytes per page, copied {times} times");
    }
    (0..2).for_each(|_| (0..1000).for_each(|window| counts.count(&batch(Kind::Zero, window, u64::MAX))));
    let taken = (bytes - counts.room.bytes) as f64 / 64_000.0;
    assert!((10.0..=BYTES_PER_PAGE as f64).contains(&taken), "{taken} bytes per page at most");
    assert_eq!(counts.lost(), 0);
}

#[test]
fn runs_end_where_counts_or_mappings_do() {
    let mut counts = counts();
    counts.count(&batch(Kind::Copy, 1, u64::MAX));
    counts.count(&batch(Kind::Copy, 2, 0b11));
    counts.count(&batch(Kind::Copy, 2, 0b10));
    let sharing = Sharing { forks_ns: vec![1, 2], ..Sharing::default() };
    let pages = summary(&counts, &sharing);
    let runs: Vec<_> = pages.map.iter().map(|run| (run.start / PAGE, run.pages, run.copies)).collect();
    assert_eq!(runs, [(64, 36, 1), (100, 29, 1), (129, 1, 2)]);
    assert_eq!((pages.pages, pages.copies, pages.map_left_out.is_none()), (66, 67, true));
    let [repeated] = pages.repeated.as_slice() else { panic!("{:?}", pages.repeated) };
    assert_eq!((&*repeated.region, &*repeated.why), ("", "shared anew by 2 forks"));
    let strips: Vec<_> = pages.strips.strips.iter().map(|s| (&*s.name, s.from_page, s.to_page)).collect();
    assert_eq!(strips, [("[heap]", 64, 99), ("", 100, 129)]);
}

#[test]
fn cells_hold_all_pages_at_each_scale() {
    let mut counts = counts();
    for window in (3..70).step_by(2) {
        counts.count(&batch(Kind::Copy, window, 0xf0));
    }
    let pages = summary(&counts, &Sharing::default());
    let strip = &pages.strips.strips[0];
    assert_eq!((strip.cell_pages, strip.cells.len() as u64 <= MOST_CELLS), (4, true));
    for cell_pages in [4, 8, 12, 64, 1 << 13] {
        let coarser = strip.coarser(cell_pages);
        let sum = coarser.cells.iter().fold(PageCell::default(), |sum, &cell| sum.and(cell));
        assert_eq!((sum, coarser.cell_pages), (strip.whole, cell_pages));
        assert_eq!(coarser.first_page % cell_pages, 0);
    }
}

#[test]
fn a_list_that_is_too_long_keeps_the_longest_runs() {
    let mut runs = runs::Runs::new(100);
    for number in 0..1000u64 {
        let run = PageRun { start: number * 16 * PAGE, pages: number % 10 + 1, copies: 1, replacements: 0 };
        runs.push(runs::Run { run, region: None, last_ns: 0, kinds: 0 });
    }
    let (kept, left_out) = runs.finish();
    assert!(kept.len() == 100 && kept.iter().all(|run| run.run.pages == 10));
    assert!(kept.is_sorted_by_key(|run| run.run.start));
    assert_eq!((left_out.runs, left_out.pages, left_out.copies), (900, 4500, 4500));
}

#[test]
fn a_process_that_is_forgotten_gives_all_its_room_back() {
    let mut counts = PageCounts::new(300, 512);
    let whole = counts.room;
    for _ in 0..3 {
        counts.count(&batch(Kind::Copy, 1, u64::MAX));
        counts.count(&batch(Kind::Zero, 2, 0xff));
        counts.count(&batch(Kind::Hugetlb, 9, 1));
        // More than there is room for.
        counts.count(&batch(Kind::Copy, 3, u64::MAX));
        (4..9).for_each(|window| counts.count(&batch(Kind::Copy, window, u64::MAX)));
    }
    assert!(counts.lost() > 0 && counts.room.pages == 0);
    counts.forget(1);
    counts.forget(1);
    assert_eq!((counts.room.pages, counts.room.bytes), (whole.pages, whole.bytes));
    assert!(counts.of(1).is_none());
}
