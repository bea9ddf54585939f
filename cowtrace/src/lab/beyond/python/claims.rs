//! What is claimed of the children, and what was measured.

use super::{
    COLLECTED, COLLECTOR, FORKED, FROZEN_COLLECTOR, FROZEN_READER, GONE, LEAVER, READ, READ_ONE, READER,
    READER_GC_OFF, SUMMED, memory::Pages, seen::Seen,
};
use crate::{
    lab::{
        claims::{Claims, Test},
        story::Observed,
    },
    proc::Vma,
};

/// Pages that an interpreter writes to whatever it does: its own state, the stack, the objects that it works with;
/// some of these lie between the lists'.
const OWN_PAGES: u64 = 32;

/// Of the reader, where it copies but few pages.
const OTHER_FAULTS: f64 = 8.0;

/// Checks all of them.
pub(super) fn check(claims: &mut Claims, seen: &Seen<'_>) {
    let setting = seen.python.setting();
    let mut put = |test: Test| claims.check(test.unless(setting.clone()));
    reading(&mut put, seen);
    collecting(&mut put, seen);
    leaving(&mut put, seen);
}

/// One child reads; then others do under other settings.
fn reading(put: &mut impl FnMut(Test), seen: &Seen<'_>) {
    let (texts, numbers) = (&seen.memory.texts, &seen.memory.numbers);
    let why = "the array holds plain numbers, no objects: nothing in it counts who looks at it";
    let parted = seen.parted(numbers, READER, SUMMED);
    put(Test::equal("pages of the array copied by summing it", 0, parted).unit("pages").because(why));
    let why = "each step of the loop counts the new reference, all in the one page of the one object";
    let copies = seen.copies(READER, READ_ONE);
    let claim = "copies by reading 150,000 references to one object";
    put(Test::at_most(claim, OWN_PAGES, copies).unit("pages").because(why));
    let readers = [
        (READER, "", "the loop holds each string for a moment, and counts that in the string's own page"),
        (READER_GC_OFF, " with gc.disable()", "the collector has no part in it: there is nothing to collect"),
        (
            FROZEN_READER,
            " after gc.freeze()",
            "freeze hides objects from the collector; who reads them counts references all the same",
        ),
    ];
    for (role, when, why) in readers {
        let claim = format!("pages of the strings with two frames once a child has read them{when}");
        put(Test::equal(claim, texts.count(), seen.parted(texts, role, READ)).unit("pages").because(why));
        let claim = format!("pages of the strings in which the tracer saw a copy{when}");
        let why = "a page has a second frame if, and only if, one of the two copied it";
        put(Test::equal(claim, texts.count(), seen.copied(texts, role)).unit("pages").because(why));
    }
    both_sides(put, seen);
}

/// What reading does to the sizes of both processes.
fn both_sides(put: &mut impl FnMut(Test), seen: &Seen<'_>) {
    let (before, after) = (seen.both(READER, READ_ONE), seen.both(READER, READ));
    let moved = |of: fn(&(&Observed, &Observed)) -> u64| Some(of(&after?).wrapping_sub(of(&before?)));
    let copies = seen.copies(READER, READ);
    let why = "each copy is a page of its own";
    let page_kb = after.map_or(4, |(_, child)| child.snapshot.page_size / 1024);
    let grown = moved(|(_, child)| private_dirty_kb(child)).map(|kb| kb / page_kb);
    let claim = "growth of the reader's Private_Dirty";
    put(Test::equal(claim, copies.unwrap_or(0), grown).unit("pages").because(why));
    let why = "each copy is a fault; nothing else needed one";
    let faults = moved(|(_, child)| child.status.minor_faults);
    let claim = "minor faults of the reader";
    let copies = copies.unwrap_or(0) as f64;
    let others = 0.01f64.max(OTHER_FAULTS / copies);
    put(Test::near(claim, copies, others, faults.map(|n| n as f64)).unit("faults").because(why));
    let texts = &seen.memory.texts;
    let why = "the old frames are left to the parent alone, which did nothing for it";
    let private = after.map(|(parent, _)| texts.private(parent));
    let claim = "pages of the strings that are the parent's alone then";
    put(Test::equal(claim, texts.count(), private).unit("pages").because(why));
    let faults = after.and_then(|(parent, _)| seen.faults(parent.snapshot.pid, None, READER, READ));
    let claim = "faults of the parent meanwhile";
    put(Test::equal(claim, 0, faults).unit("faults").because("it waited"));
}

/// The collector, before and after it is told to leave alone what there is.
fn collecting(put: &mut impl FnMut(Test), seen: &Seen<'_>) {
    let (texts, headers) = (&seen.memory.texts, &seen.memory.headers);
    let mut copied = |claim: &str, pages: &Pages, all: bool, role, why: &str| {
        let parted = seen.parted(pages, role, COLLECTED);
        let test = match all {
            true => Test::equal(claim, pages.count(), parted),
            false => Test::at_most(claim, OWN_PAGES, parted),
        };
        put(test.unit("pages").because(why));
    };
    let why = "it notes in front of each instance how many references it can account for";
    copied("pages of the instances that gc.collect() copied", headers, true, COLLECTOR, why);
    let why = "a string cannot hold other objects, so that the collector does not know of it";
    copied("pages of the strings that gc.collect() copied", texts, false, COLLECTOR, why);
    let why = "what is frozen is in none of the collector's lists";
    copied("pages of the instances copied so after gc.freeze()", headers, false, FROZEN_COLLECTOR, why);
}

/// A child that does nothing, and leaves.
fn leaving(put: &mut impl FnMut(Test), seen: &Seen<'_>) {
    let (texts, headers) = (&seen.memory.texts, &seen.memory.headers);
    let why = "nobody has read anything";
    let parted = seen.parted(texts, LEAVER, FORKED);
    let claim = "pages of the strings with two frames before a child leaves";
    put(Test::at_most(claim, OWN_PAGES, parted).unit("pages").because(why));
    let why = "sys.exit() ends the interpreter in order: each object is freed, which writes to it";
    for (claim, pages) in [
        ("pages of the strings that a child copied by sys.exit()", texts),
        ("pages of the instances that it copied so", headers),
    ] {
        put(Test::equal(claim, pages.count(), seen.copied(pages, LEAVER)).unit("pages").because(why));
    }
    let copies = seen.copies(READER, GONE);
    let why = "it ends the process as it is";
    put(Test::at_most("copies of a child by os._exit()", OWN_PAGES, copies).unit("pages").because(why));
}

fn private_dirty_kb(process: &Observed) -> u64 {
    process.snapshot.vmas.iter().map(|vma: &Vma| vma.private_dirty_kb).sum()
}
