//! What users see, held by snapshots.

use cowtrace_abi::Kind;

use super::page_picture;
use crate::{
    export::{Style, human, human_tests, json},
    model::{Before, PageBatch, PageCounts, RegionFaults, Report, Sharing, Summary},
};

const PAGE: u64 = 4096;
const HEAP: u64 = 0x5555_0000_0000;
const ARENA: u64 = 0x7f00_0000_0000;

fn count(counts: &mut PageCounts, kind: Kind, start: u64, pages: impl Iterator<Item = u64>) {
    for page in pages.map(|page| start / PAGE + page) {
        counts.count(&PageBatch {
            id: 1,
            kind,
            window: page / 64,
            epoch: 0,
            bitmap: 1 << (page % 64),
            faults: 1,
            span: 0,
            first_ns: 0,
            last_ns: 100,
            vma: None,
            remote: false,
            unplaced: false,
        });
    }
}

fn region(start: u64, pages: u64, name: &str, copies: u64) -> RegionFaults {
    let faults = human_tests::faults(copies, 0, 0, 0, 0);
    RegionFaults { start, end: start + pages * PAGE, perms: "rw-p".into(), name: name.into(), faults }
}

/// A process that copied all of its heap, ten pages of it three times; parts of a large mapping; and a library's data.
pub(in crate::export) fn report() -> Report {
    let mut counts = PageCounts::new(1 << 20, 512);
    count(&mut counts, Kind::Copy, HEAP, 0..300);
    (0..2).for_each(|_| count(&mut counts, Kind::Copy, HEAP, 40..50));
    count(&mut counts, Kind::Copy, ARENA, (0..2000).step_by(3));
    count(&mut counts, Kind::Copy, ARENA, 60_000..60_400);
    count(&mut counts, Kind::Copy, ARENA, 60_007..60_008);
    count(&mut counts, Kind::FileAfterRead, ARENA + (1 << 30), 0..3);
    let regions = vec![
        region(HEAP, 400, "[heap]", 320),
        region(ARENA, 70_000, "", 1068),
        region(ARENA + (1 << 30), 6, "/usr/lib/x86_64-linux-gnu/libc.so.6", 0),
        region(ARENA + (2 << 30), 6, "/usr/lib/x86_64-linux-gnu/libm.so.6", 0),
    ];
    let sharing = Sharing {
        forks_ns: vec![1, 2, 3],
        before: Before::Nothing,
        exec: false,
        counts_raced: true,
        ..Sharing::default()
    };
    let pages = counts.of(1).map(|map| Summary::new(PAGE).of(map, &regions, &sharing, true));
    let mut report = human_tests::report();
    report.processes[1].regions = regions;
    report.processes[1].pages = pages;
    report.processes[0].pages = Some(Default::default());
    report
}

fn section(width: usize, color: bool) -> String {
    let mut text = String::new();
    super::render(&mut text, &report(), Style { color, width }, 20);
    text
}

#[test]
fn the_map_of_a_process() {
    insta::assert_snapshot!(section(100, false));
}

#[test]
fn narrow_terminals_lose_addresses_and_then_sizes() {
    insta::assert_snapshot!(section(60, false));
    for width in 20..120 {
        let text = section(width, false);
        let map = text.lines().filter(|line| line.starts_with("  ") && line.contains(['█', '▂', '▃']));
        assert!(map.clone().count() >= 2, "{width}: {text}");
        assert!(map.clone().all(|line| line.chars().count() < width), "{width}: {text}");
    }
    insta::assert_snapshot!(section(24, false));
}

#[test]
fn with_colours_a_cell_tells_its_share_and_whether_a_page_was_copied_again() {
    let text = section(100, true);
    assert!(text.contains("\x1b[0;33m██\x1b[0;36m█"), "{text}");
    assert!(text.contains("yellow: some more than once") && !section(100, false).contains('\x1b'));
}

#[test]
fn the_picture() {
    let svg = page_picture(&report());
    insta::assert_snapshot!(svg);
    assert!(!svg.contains("<script") && svg.matches("<svg").count() == 1);
}

#[test]
fn the_picture_of_nothing_says_so() {
    assert!(page_picture(&human_tests::report()).contains("no page was copied"));
}

#[test]
fn a_picture_is_bounded() {
    let mut report = report();
    let mut counts = PageCounts::new(1 << 20, 512);
    let mut next = 1u64;
    for _ in 0..200_000 {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        count(&mut counts, Kind::Copy, ARENA, std::iter::once((next >> 33) % (1 << 22)));
    }
    let regions = vec![region(ARENA, 1 << 22, "", 200_000)];
    let pages =
        counts.of(1).map(|map| Summary::new(PAGE).of(map, &regions, &Sharing::default(), true)).unwrap();
    let listed: u64 = pages.map.iter().map(|run| run.pages * u64::from(run.copies)).sum();
    assert_eq!(listed + pages.map_left_out.copies, pages.copies);
    report.processes[1].pages = Some(pages);
    let many = report.processes[1].clone();
    report.processes.extend(std::iter::repeat_n(many, 20));
    let svg = page_picture(&report);
    assert!(svg.len() < 2 << 20, "{} bytes", svg.len());
    assert!(svg.contains("15 more processes with copies are not drawn"));
}

#[test]
fn json_of_pages_is_read_back() {
    let mut report = report();
    let text = String::from_utf8(json(&report).unwrap()).unwrap();
    assert!(text.contains("\"why\": \"shared anew by 3 forks\""), "{text}");
    for process in &mut report.processes {
        if let Some(pages) = &mut process.pages {
            // The picture's cells are not in JSON.
            pages.strips = Default::default();
        }
    }
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[test]
fn the_section_is_part_of_the_report_and_losses_are_told() {
    let mut report = report();
    report.lost.pages = 7;
    let text = human(&report, &Style { color: false, width: 100 }, 20);
    assert!(text.contains("\npages    1,367 pages copied"), "{text}");
    assert!(text.contains("7 copies not counted by page (--max-pages has room for more)"), "{text}");
}
