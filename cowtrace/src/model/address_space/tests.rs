//! Histories as programs make them.

use super::*;

const TICK: u64 = 4_000_000;
const MS: u64 = 1_000_000;
const BASE: u64 = 1_000 * MS;

fn map(start: u64, end: u64, perms: &str, offset: u64, name: &str) -> Mapping {
    Mapping { start, end, perms: Perms::parse(perms).unwrap_or_default(), offset, name: name.into() }
}

fn anon(start: u64, end: u64) -> Mapping {
    map(start, end, "rw-p", 0, "")
}

fn space(mappings: &[Mapping]) -> AddressSpace {
    let mut space = AddressSpace::new();
    for mapping in mappings {
        space.apply(BASE, mapping.clone());
    }
    space
}

/// Looks up a page that faulted at one moment, long after everything else.
fn late(space: &mut AddressSpace, address: u64) -> Option<(RegionId, Region, bool)> {
    at(space, address, BASE + 1_000 * MS)
}

fn at(space: &mut AddressSpace, address: u64, ns: u64) -> Option<(RegionId, Region, bool)> {
    let lookup = space.region_at(address, ns, ns, TICK)?;
    Some((lookup.region, space.region(lookup.region)?.clone(), lookup.ambiguous))
}

fn named(found: Option<(RegionId, Region, bool)>) -> Option<(String, u64, u64, bool)> {
    found.map(|(_, region, ambiguous)| {
        (format!("{} {}", region.perms, region.name), region.start, region.end, ambiguous)
    })
}

#[test]
fn perms_are_spelled_as_in_proc_maps() {
    for text in ["rw-p", "r-xp", "---p", "rw-s", "rwxp"] {
        assert_eq!(Perms::parse(text).map(|perms| perms.to_string()).as_deref(), Some(text));
    }
    assert_eq!(Perms::parse("rw"), None);
    assert_eq!(Perms::parse("wr-p"), None);
    assert_eq!(Perms::parse("r--?"), None);
}

#[test]
fn addresses_outside_of_mappings_have_no_region() {
    let mut space = space(&[anon(0x2000, 0x4000)]);
    for address in [0x1000, 0x4000, u64::MAX] {
        assert_eq!(late(&mut space, address), None);
    }
    assert_eq!(named(late(&mut space, 0x3000)), Some(("rw-p ".into(), 0x2000, 0x4000, false)));
}

#[test]
fn an_inverted_mapping_is_ignored() {
    let space = space(&[anon(0x4000, 0x2000), anon(0x1000, 0x1000)]);
    assert!(space.is_empty());
}

#[test]
fn the_newest_mapping_hides_what_it_overlaps() {
    let lib = |start, end, perms, offset| map(start, end, perms, offset, "/lib.so");
    // As ld.so does it: the whole file read-only, then the segments over it, then RELRO.
    let mut space = space(&[lib(0x10000, 0x20000, "r--p", 0)]);
    space.apply(BASE + MS, lib(0x14000, 0x18000, "r-xp", 0x4000));
    space.apply(BASE + MS, lib(0x1c000, 0x20000, "rw-p", 0xc000));
    space.apply(BASE + 2 * MS, lib(0x1c000, 0x1e000, "r--p", 0xc000));
    let pieces: Vec<String> =
        space.mappings().map(|m| format!("{:x}-{:x} {} {:x}", m.start, m.end, m.perms, m.offset)).collect();
    assert_eq!(
        pieces,
        [
            "10000-14000 r--p 0",
            "14000-18000 r-xp 4000",
            "18000-1c000 r--p 8000",
            "1c000-1e000 r--p c000",
            "1e000-20000 rw-p e000"
        ]
    );
    // Relocations were written while RELRO was still writable.
    let relocated = at(&mut space, 0x1c000, BASE + MS);
    assert_eq!(named(relocated), Some(("rw-p /lib.so".into(), 0x1c000, 0x20000, false)));
    assert_eq!(named(late(&mut space, 0x1c000)).map(|found| found.0), Some("r--p /lib.so".into()));
}

#[test]
fn a_growing_heap_stays_one_region() {
    let mut space = space(&[map(0x1000, 0x3000, "rw-p", 0, "[heap]")]);
    let first = late(&mut space, 0x1000);
    for step in 1..2_000 {
        space.apply(BASE + step, map(0x1000, 0x3000 + step * 0x1000, "rw-p", 0, "[heap]"));
    }
    let (id, region, ambiguous) = late(&mut space, 0x3000 + 1_998 * 0x1000).expect("the heap");
    assert_eq!(Some(id), first.map(|found| found.0));
    assert_eq!((region.start, region.end, ambiguous), (0x1000, 0x3000 + 1_999 * 0x1000, false));
    assert_eq!((space.mappings().count(), space.dropped()), (1, 0));
}

#[test]
fn a_growing_stack_and_a_merged_neighbour_stay_one_region() {
    let mut space = space(&[map(0x9000, 0xa000, "rw-p", 0, "[stack]"), anon(0x2000, 0x3000)]);
    let stack = late(&mut space, 0x9000).map(|found| found.0);
    let merged = late(&mut space, 0x2000).map(|found| found.0);
    space.apply(BASE + 1, map(0x7000, 0xa000, "rw-p", 0, "[stack]"));
    space.apply(BASE + 1, anon(0x1000, 0x3000));
    assert_eq!(late(&mut space, 0x7000).map(|found| found.0), stack);
    assert_eq!(late(&mut space, 0x1000).map(|found| found.0), merged);
}

#[test]
fn mprotect_in_the_middle_makes_a_region_and_undoing_it_restores_the_first() {
    let mut space = space(&[anon(0x1000, 0x9000)]);
    let whole = late(&mut space, 0x1000).map(|found| found.0);
    space.apply(BASE + MS, map(0x3000, 0x5000, "r--p", 0, ""));
    let (changed, region, _) = late(&mut space, 0x3000).expect("the changed part");
    assert_ne!(Some(changed), whole);
    assert_eq!((region.start, region.end, region.perms.to_string()), (0x3000, 0x5000, "r--p".into()));
    assert_eq!(late(&mut space, 0x8000).map(|found| found.0), whole);
    space.apply(BASE + 2 * MS, anon(0x1000, 0x9000));
    assert_eq!(late(&mut space, 0x3000).map(|found| found.0), whole);
    assert_eq!(space.mappings().count(), 1);
}

#[test]
fn a_file_mapping_grows_only_where_the_offset_fits() {
    let file = |start, end, offset| map(start, end, "rw-p", offset, "/data");
    let mut space = space(&[file(0x2000, 0x3000, 0x1000)]);
    let first = late(&mut space, 0x2000).map(|found| found.0);
    space.apply(BASE + MS, file(0x1000, 0x3000, 0));
    assert_eq!(late(&mut space, 0x1000).map(|found| found.0), first);
    space.apply(BASE + 2 * MS, file(0x1000, 0x3000, 0x7000));
    assert_ne!(late(&mut space, 0x1000).map(|found| found.0), first);
}

#[test]
fn time_decides_between_mappings_at_one_address() {
    let mut space = space(&[map(0x1000, 0x3000, "rw-p", 0, "/one")]);
    space.apply(BASE + 20 * MS, map(0x1000, 0x3000, "rw-p", 0, "/two"));
    let name = |found| named(found).map(|(name, _, _, ambiguous)| (name, ambiguous));
    assert_eq!(name(at(&mut space, 0x1000, BASE + 10 * MS)), Some(("rw-p /one".into(), false)));
    assert_eq!(name(at(&mut space, 0x1000, BASE + 20 * MS)), Some(("rw-p /two".into(), false)));
    // The fault's time is up to a tick too early, so it can be either's.
    assert_eq!(name(at(&mut space, 0x1000, BASE + 18 * MS)), Some(("rw-p /two".into(), true)));
    let window = space.region_at(0x1000, BASE + MS, BASE + 30 * MS, TICK);
    assert_eq!(window.map(|lookup| lookup.ambiguous), Some(true));
}

#[test]
fn a_region_that_grew_over_another_is_told_apart_by_time() {
    let mut space = space(&[anon(0x1000, 0x2000), map(0x2000, 0x3000, "rw-p", 0, "/file")]);
    let grown = late(&mut space, 0x1000).map(|found| found.0);
    space.apply(BASE + 20 * MS, anon(0x1000, 0x3000));
    assert_eq!(late(&mut space, 0x2000).map(|found| found.0), grown);
    assert_eq!(late(&mut space, 0x1000).map(|found| found.0), grown);
    let before = named(at(&mut space, 0x2000, BASE + 5 * MS));
    assert_eq!(before, Some(("rw-p /file".into(), 0x2000, 0x3000, false)));
}

#[test]
fn a_mapping_that_came_after_the_fault_is_better_than_none() {
    let mut space = space(&[anon(0x1000, 0x2000)]);
    assert_eq!(named(at(&mut space, 0x1000, BASE - 100 * MS)), Some(("rw-p ".into(), 0x1000, 0x2000, true)));
}

#[test]
fn counts_of_an_image_before_exec_keep_their_names() {
    let mut space = space(&[map(0x1000, 0x2000, "rw-p", 0, "/bin/old")]);
    let (old, ..) = at(&mut space, 0x1000, BASE + MS).expect("the old image");
    space.exec(BASE + 50 * MS);
    assert!(space.is_empty());
    space.apply(BASE + 51 * MS, map(0x1000, 0x2000, "rw-p", 0, "/bin/new"));
    assert_eq!(at(&mut space, 0x1000, BASE + 10 * MS).map(|found| found.0), Some(old));
    assert_eq!(named(late(&mut space, 0x1000)).map(|found| found.0), Some("rw-p /bin/new".into()));
    assert_eq!(space.region(old).map(|region| &*region.name), Some("/bin/old"));
}

#[test]
fn images_and_superseded_pieces_are_bounded_and_counted() {
    let mut space = AddressSpace::new();
    for n in 0..MAX_IMAGES as u64 + 12 {
        space.apply(BASE + 2 * n, anon(0x1000, 0x2000));
        space.exec(BASE + 2 * n + 1);
    }
    assert_eq!(space.dropped(), 12);
    let mut space = AddressSpace::new();
    for n in 0..2_000_u64 {
        space.apply(BASE + n, map(0x1000, 0x2000, "rw-p", 0, if n % 2 == 0 { "/a" } else { "/b" }));
    }
    assert_eq!(space.dropped(), 1_999 - MAX_SUPERSEDED as u64);
}

#[test]
fn live_pieces_are_bounded_and_the_newest_stay() {
    let mut space = AddressSpace::new();
    let count = MAX_LIVE as u64 + 1;
    for n in 0..count {
        space.apply(BASE + n, anon(n * 0x2000, n * 0x2000 + 0x1000));
    }
    assert_eq!(space.dropped(), count / 2);
    assert!(late(&mut space, (count - 1) * 0x2000).is_some());
    assert!(late(&mut space, 0).is_none());
}

#[test]
fn a_child_has_the_parents_mappings_and_then_its_own() {
    let mut parent = space(&[anon(0x1000, 0x3000)]);
    let mut child = parent.fork(BASE + 10 * MS);
    parent.apply(BASE + 20 * MS, map(0x1000, 0x3000, "rw-p", 0, "/parent"));
    child.apply(BASE + 20 * MS, map(0x5000, 0x6000, "rw-p", 0, "/child"));
    assert_eq!(named(late(&mut child, 0x1000)).map(|found| found.0), Some("rw-p ".into()));
    assert_eq!(named(late(&mut parent, 0x1000)).map(|found| found.0), Some("rw-p /parent".into()));
    assert_eq!(late(&mut parent, 0x5000), None);
    // The child's regions are only those of its own lookups.
    assert_eq!(child.regions().count(), 1);
}

#[test]
fn a_fork_told_late_still_knows_what_the_parent_replaced_meanwhile() {
    let mut parent = space(&[map(0x1000, 0x3000, "rw-p", 0, "/before")]);
    parent.apply(BASE + 20 * MS, map(0x1000, 0x3000, "rw-p", 0, "/after"));
    let mut child = parent.fork(BASE + 10 * MS);
    assert_eq!(named(at(&mut child, 0x1000, BASE + 12 * MS)).map(|f| f.0), Some("rw-p /before".into()));
    let mut later = parent.fork(BASE + 30 * MS);
    assert_eq!(named(at(&mut later, 0x1000, BASE + 31 * MS)).map(|f| f.0), Some("rw-p /after".into()));
}

#[test]
fn a_listing_adds_what_is_unknown_and_removes_what_is_gone() {
    let mut space = space(&[anon(0x1000, 0x9000), map(0xa000, 0xb000, "rw-p", 0, "/gone")]);
    let kept = late(&mut space, 0x1000).map(|found| found.0);
    // munmap of a part, and mremap to 0x20000; the listing says so.
    let listing = [anon(0x1000, 0x5000), anon(0x20000, 0x40000)];
    space.reconcile(&listing, BASE + 50 * MS);
    assert_eq!(space.mappings().collect::<Vec<_>>(), listing);
    assert_eq!(late(&mut space, 0x1000).map(|found| found.0), kept);
    // Before the listing, both what was known and what was not are found.
    assert_eq!(named(at(&mut space, 0xa000, BASE + MS)).map(|f| f.0), Some("rw-p /gone".into()));
    let moved = named(at(&mut space, 0x30000, BASE + MS));
    assert_eq!(moved, Some(("rw-p ".into(), 0x20000, 0x40000, false)));
}

#[test]
fn a_listing_is_not_undone_by_records_from_before_it() {
    let mut space = AddressSpace::new();
    let old = map(0x1000, 0x3000, "rw-p", 0, "/old");
    space.reconcile(&[map(0x1000, 0x3000, "rw-p", 0, "/new")], BASE + 50 * MS);
    space.apply(BASE + 10 * MS, old);
    space.exec(BASE + 5 * MS);
    assert_eq!(named(late(&mut space, 0x1000)).map(|f| f.0), Some("rw-p /new".into()));
    space.apply(BASE + 60 * MS, anon(0x1000, 0x2000));
    assert_eq!(named(late(&mut space, 0x1000)).map(|f| f.0), Some("rw-p ".into()));
    assert_eq!(space.mappings().count(), 2);
}

#[test]
fn a_listing_that_splits_by_flags_or_knows_more_names_keeps_the_regions() {
    let mut space = space(&[
        anon(0x1000, 0x4000),
        map(0x10000, 0x11000, "rw-p", 0, ""),
        map(0x20000, 0x21000, "rw-p", 0x1000, "/tmp/file"),
    ]);
    let ids = [0x1000, 0x10000, 0x20000].map(|address| late(&mut space, address).map(|found| found.0));
    let listing = [
        // madvise(MADV_DONTFORK) in the middle.
        anon(0x1000, 0x2000),
        anon(0x2000, 0x3000),
        anon(0x3000, 0x4000),
        map(0x10000, 0x11000, "rw-p", 0, "[anon:mine]"),
        map(0x20000, 0x21000, "rw-p", 0x1000, "/tmp/file (deleted)"),
    ];
    space.reconcile(&listing, BASE + 50 * MS);
    let after = [0x3000, 0x10000, 0x20000].map(|address| late(&mut space, address).map(|found| found.0));
    assert_eq!(after, ids);
    let names: Vec<String> = space.regions().map(|(_, region)| region.name.to_string()).collect();
    assert_eq!(names, ["", "[anon:mine]", "/tmp/file"]);
}

#[test]
fn the_first_heap_is_recognised_though_perf_calls_it_anonymous() {
    let mut space = AddressSpace::new();
    space.exec(BASE);
    for mapping in [
        map(0x7ff0_0000, 0x7ff2_0000, "rw-p", 0, "[stack]"),
        map(0x55_0000, 0x55_4000, "r--p", 0, "/bin/sh"),
        map(0x55_3000, 0x55_4000, "rw-p", 0x3000, "/bin/sh"),
        map(0x55_4000, 0x55_6000, "rw-p", 0, ""),
        map(0x7f00_0000, 0x7f01_0000, "rw-p", 0, "/ld.so"),
        map(0x7f02_0000, 0x7f02_1000, "r-xp", 0, "[vdso]"),
        map(0x7f03_0000, 0x7f03_1000, "rw-p", 0, ""),
        map(0x60_0000, 0x60_1000, "rw-p", 0, ""),
    ] {
        space.apply(BASE + 1, mapping);
    }
    let name = |space: &mut AddressSpace, address| {
        late(space, address).map(|(_, region, _)| region.name.to_string())
    };
    assert_eq!(name(&mut space, 0x60_0000).as_deref(), Some("[heap]"));
    assert_eq!(name(&mut space, 0x55_4000).as_deref(), Some(""), "the .bss");
    let heap = late(&mut space, 0x60_0000).map(|found| found.0);
    space.apply(BASE + 2, map(0x60_0000, 0x60_9000, "rw-p", 0, "[heap]"));
    assert_eq!(late(&mut space, 0x60_8000).map(|found| found.0), heap);
}

#[test]
fn compacting_keeps_the_regions_that_were_looked_up() {
    let mut space = space(&[anon(0x1000, 0x2000), anon(0x5000, 0x6000)]);
    let (id, region, _) = late(&mut space, 0x5000).expect("a region");
    space.compact();
    assert!(space.is_empty());
    assert_eq!(space.region(id), Some(&region));
    assert_eq!(space.into_regions().into_iter().collect::<Vec<_>>(), [(id, region)]);
}

#[test]
fn one_lookup_answers_for_the_whole_piece_unless_history_interferes() {
    let mut space = space(&[anon(0x1000, 0x9000)]);
    let end = |space: &mut AddressSpace, ns| space.region_at(0x2000, ns, ns, TICK).map(|lookup| lookup.end);
    assert_eq!(end(&mut space, BASE + MS), Some(0x9000));
    space.apply(BASE + 20 * MS, map(0x4000, 0x5000, "rw-p", 0, "/file"));
    assert_eq!(end(&mut space, BASE + MS), Some(0x2001));
    assert_eq!(end(&mut space, BASE + 20 * MS), Some(0x4000));
}
