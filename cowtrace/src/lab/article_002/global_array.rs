//! `global-array`: ten elements of a global array are changed, and one page of it is copied.

use cowtrace_abi::Kind;

use super::SOURCE;
use crate::{
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        story::{CHILD, Focus, PARENT, Since, Story},
    },
    proc::Vma,
};

const FILLED: &str = "filled";
const FORKED: &str = "forked";
const WROTE: &str = "child wrote";
const PARENT_WROTE: &str = "parent wrote";

const ELEMENTS: u64 = 1 << 20;
const ELEMENT_BYTES: u64 = 4;
/// Elements that the child changes.
const CHANGED: u64 = 10;
/// The element that the source says is still shared.
const ASKED: u64 = 1000;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "global-array",
    source: SOURCE,
    title: "Ten elements of a 4 MiB global array changed: one page copied",
    about: "A program has an array of 1,048,576 integers in .bss and gives each a value. It forks, and the child \
            changes the first ten. Then the parent writes the first element, too.",
    expect: "One copy: ten integers lie on one page. The other pages stay shared, and the parent sees the old \
             values. The parent's write is a fault as well, but no copy: the old page is its alone.",
    lesson: "Global variables are private memory as any other: copied by the page, when they are written. \
             What happens to lie on the same page is copied with it: element 1000 is at byte 4000, on the \
             first page of 4,096 bytes, and not shared any more, though its value never changed.",
    focus: Focus::Buffer("the array"),
    size: None,
    run,
};

fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("global-array", &[], &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], FILLED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(CHILD, &[CHILD], WROTE)?;
    let child = workload.take_samples().first().copied();
    workload.go(PARENT, &[PARENT], PARENT_WROTE)?;
    workload.end(CHILD, &[], "child gone")?;
    workload.go(PARENT, &[PARENT], "parent read")?;
    let parent = workload.take_samples().first().copied();
    let (story, report) = workload.finish()?;
    place(lab, &story);
    copies(lab, &story);
    values(lab, child, parent);
    Ok(Outcome { story, report })
}

/// Where the array is, and how it came into memory.
fn place(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    let array = story.buffer_at(FILLED, PARENT);
    let named = array.map(|vma| u64::from(!vma.name.is_empty()));
    let why = ".bss has no bytes in the program's file; only the size is there";
    claims.equal("files behind the array's mapping", 0, named, "files", why);
    let touches = story.buffer_faults(PARENT, Kind::Anon, Since::Start);
    let pages = pages(story);
    let why = "giving each element its value touches every page for the first time";
    claims.equal("first touches in the array", pages, touches, "pages", why);
}

fn copies(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    let copies = |role| story.buffer_faults(role, Kind::Copy, Since::Start);
    let why = "ten integers have 40 bytes, all on the array's first page";
    claims.equal("copies in the child's array", 1, copies(CHILD), "pages", why);
    let range = story.process_at(FILLED, PARENT).map(|process| process.buffer.clone());
    let faults = |role, since| story.faults(role, Some(range.as_ref()?), None, since);
    let why = "the first write makes the copy, which is writable: the other nine go through";
    claims.equal("faults in the child's array by ten writes", 1, faults(CHILD, Since::Start), "faults", why);
    let why = "the page that the child left is still read-only for the parent, until a fault finds it alone with it";
    let faults = faults(PARENT, Since::Checkpoint(WROTE));
    claims.equal("faults when the parent then writes the same page", 1, faults, "faults", why);
    let reused = story.buffer_faults(PARENT, Kind::Reuse, Since::Checkpoint(WROTE));
    claims.equal("of these solved without a copy", 1, reused, "faults", "nobody else has the page any more");
    let why = "its one write found the page its alone";
    claims.equal("copies in the parent's array", 0, copies(PARENT), "pages", why);
    let kept = story.kept_buffer_frames(PARENT, FILLED);
    let why = "the copy was the child's, so the original is what the parent has";
    claims.equal("frames that the parent's array kept to the end", pages(story), kept, "frames", why);
    let (pages, kb) = (pages(story), page_kb(story));
    for (role, who) in [(PARENT, "parent"), (CHILD, "child")] {
        let array = story.buffer_at(WROTE, role);
        let mut of = |field: &str, expected, get: fn(&Vma) -> u64, why| {
            claims.equal(format!("{field} of the {who}'s array"), expected, array.map(get), "kB", why);
        };
        of("Private_Dirty", kb, |vma| vma.private_dirty_kb, "one page is no longer shared, on either side");
        of("Shared_Dirty", (pages - 1) * kb, |vma| vma.shared_dirty_kb, "all the others are");
    }
    let common = |page: u64| {
        let (parent, child) = (story.process_at(WROTE, PARENT)?, story.process_at(WROTE, CHILD)?);
        let number = parent.buffer.start / parent.snapshot.page_size + page;
        Some(u64::from(parent.frame(number)? == child.frame(number)?))
    };
    let shared = || (0..pages).map(common).sum::<Option<u64>>();
    let why = "frame numbers: all pages but the first are one and the same in both";
    claims.equal("pages of the array with one frame for both", pages - 1, shared(), "pages", why);
    let page_of_asked = ASKED * ELEMENT_BYTES / (kb * 1024);
    claims.check(
        Test::equal("the page of element 1000 is still shared", 1, common(page_of_asked))
            .unit("pages")
            .known_wrong(format!(
                "element 1000 is at byte 4000 of the array, on its first page, which was copied with the \
                 elements 0 to 9; the first shared element is {}",
                kb * 1024 / ELEMENT_BYTES
            )),
    );
}

/// What the two processes read.
fn values(lab: &mut Lab<'_>, child: Option<[u64; 4]>, parent: Option<[u64; 4]>) {
    let claims = &mut lab.claims;
    let figure = |sample: Option<[u64; 4]>, index: usize| Some(sample?[index]);
    let why = "it wrote to its own copy";
    claims.equal("changed elements that the child reads", CHANGED, figure(child, 0), "elements", why);
    let why = "a copy begins with the old content, and the other pages are the old ones";
    claims.equal("old elements that the child reads", ELEMENTS - CHANGED, figure(child, 1), "elements", why);
    claims.equal(
        "element 1000 as the child reads it",
        ASKED,
        figure(child, 2),
        "value",
        "copied, not changed",
    );
    let why = "the child's writes went to the child's copy";
    claims.equal("changed elements that the parent reads afterwards", 0, figure(parent, 0), "elements", why);
    claims.equal(
        "old elements that the parent reads afterwards",
        ELEMENTS,
        figure(parent, 1),
        "elements",
        why,
    );
    claims.equal(
        "element 1000 as the parent reads it",
        ASKED,
        figure(parent, 2),
        "value",
        "nobody changed it",
    );
}

/// Pages of the array.
fn pages(story: &Story) -> u64 {
    story.process_at(FILLED, PARENT).map_or(1, |process| process.buffer_pages_in(ELEMENTS * ELEMENT_BYTES))
}

fn page_kb(story: &Story) -> u64 {
    story.process_at(FILLED, PARENT).map_or(4, |process| process.snapshot.page_size / 1024)
}
