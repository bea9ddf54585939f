//! The five steps of `000_24b77592e6f1d529.txt`: from a process without a heap to a child that writes to its
//! own.

mod heap;

use cowtrace_abi::Kind;

use super::{
    claims::Test,
    experiment::{Experiment, Lab, Outcome},
    setting, size,
    story::{CHILD, Focus, Observed, PARENT, Story},
};
use crate::proc::Vma;
use heap::Heap;

const SOURCE: &str = "000_24b77592e6f1d529.txt";
const HEAP: &str = "[heap]";

pub(super) static EXPERIMENTS: [Experiment; 5] = [
    Experiment {
        id: "no-heap",
        source: SOURCE,
        title: "A process that never asks for memory has no heap",
        about: "A process starts, and waits. It calls no malloc, and its C library has no reason to either.",
        expect: "Code, data and stack, but no mapping named [heap]; and no copy of any shared page, because \
                 there is nobody to share with.",
        lesson: "The heap is made on demand. What is private and dirty already is the loader's work: \
                 relocated tables, initialised variables, the stack.",
        focus: Focus::Named(HEAP),
        size: None,
        run: no_heap,
    },
    Experiment {
        id: "heap-untouched",
        source: SOURCE,
        title: "malloc reserves addresses, not memory",
        about: "One malloc of 64 KiB, and nothing is written to it.",
        expect: "A [heap] of 132 kB, of which only the pages with the allocator's own notes are in memory.",
        lesson: "Size is a promise, Rss is what was kept of it: pages come with the first write, and here \
                 only the allocator wrote. First touches are faults, but no copies.",
        focus: Focus::Named(HEAP),
        size: None,
        run: heap_untouched,
    },
    Experiment {
        id: "heap-touched",
        source: SOURCE,
        title: "Writing makes it real: one first touch per page",
        about: "The same malloc, then memset over all 64 KiB.",
        expect: "17 pages come into memory: 16 would hold the data, but it begins behind the allocator's \
                 notes. All are private and dirty, and none was copied from anywhere.",
        lesson: "Private_Dirty grows without any copy on write: a process alone pays with first touches. So \
                 growth of Private_Dirty does not by itself mean that something was duplicated.",
        focus: Focus::Named(HEAP),
        size: None,
        run: heap_touched,
    },
    Experiment {
        id: "fork-shared",
        source: SOURCE,
        title: "fork shares every page and copies none",
        about: "After the memset the process forks. Then both wait.",
        expect: "Both show the same 17 pages: Rss counts them in full for each, Pss by halves. They are \
                 dirty still, but shared now: Private_Dirty falls to 0 in the parent, too.",
        lesson: "The fork took 17 private pages away from the parent without a fault and without a copy: \
                 the ledger calls that given up. The frames behind the addresses are the same in both. The \
                 few copies of the fork itself are elsewhere: stack, thread data.",
        focus: Focus::Named(HEAP),
        size: None,
        run: fork_shared,
    },
    Experiment {
        id: "child-writes",
        source: SOURCE,
        title: "The child writes: it makes all the copies, and both are private again",
        about: "After the fork the child, and only the child, writes to the whole buffer.",
        expect: "17 copies in the child's heap, none in the parent's; and yet both end with 68 kB of \
                 Private_Dirty.",
        lesson: "One copy moves two processes: the child gets a new frame, and the parent is left alone \
                 with the old one, which was dirty all along. That is why Private_Dirty can be explained \
                 only for a whole family, and why it does not tell who wrote.",
        focus: Focus::Named(HEAP),
        size: None,
        run: child_writes,
    },
];

fn no_heap(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("no-heap", &[], &["process"])?;
    workload.go(PARENT, &[PARENT], "idle")?;
    let (story, report) = workload.finish()?;
    let in_memory = lab.files_in_memory();
    let claims = &mut lab.claims;
    let named = |name: &str| {
        let process = story.process(PARENT)?;
        Some(process.snapshot.vmas.iter().filter(|vma| vma.name == name).count() as u64)
    };
    claims.equal("no mapping is named [heap]", 0, named(HEAP), "mappings", "nobody moved the program break");
    claims.equal("the stack is there", 1, named("[stack]"), "mappings", "execve makes it");
    let copies = story.faults_of(PARENT, Kind::Copy);
    claims.equal(
        "no page was copied on write",
        0,
        copies,
        "pages",
        "a process that never forked shares with nobody",
    );
    let moved = |role| {
        let sum = |vmas: &[Vma]| vmas.iter().map(|vma| vma.private_dirty_kb).sum::<u64>();
        let (now, before) = (story.process(role)?, story.process_before(role)?);
        Some(sum(&now.snapshot.vmas).abs_diff(sum(&before.snapshot.vmas)))
    };
    let why = "it does nothing, so no page becomes dirty: a clean baseline";
    let still = Test::equal("Private_Dirty of the whole process stands still", 0, moved(PARENT)).unit("kB");
    claims.check(still.because(why).unless(in_memory));
    Ok(Outcome { story, report })
}

fn heap_untouched(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("heap-untouched", &[], &["process"])?;
    workload.go(PARENT, &[PARENT], "allocated")?;
    let (story, report) = workload.finish()?;
    let claims = &mut lab.claims;
    let heap = story.mapping(PARENT, HEAP);
    let resident = heap.map(|vma| vma.rss_kb / size::kb(1));
    let expected = Heap::here();
    claims.equal(
        "malloc made a heap",
        1,
        Some(u64::from(heap.is_some())),
        "mappings",
        "malloc moved the break",
    );
    let why = format!(
        "the allocator asks once for its notes and 128 KiB of reserve: {} pages, which hold the 64 KiB",
        expected.pages
    );
    claims.equal("its Size", expected.kb(), heap.map(|vma| vma.size_kb), "kB", &why);
    let why = "only the pages that hold the allocator's notes were written";
    claims.within("pages in memory", 1..=2, resident, "pages", why);
    let private = heap.map(|vma| vma.private_dirty_kb);
    let why = "what is in memory was written, and nobody else maps it";
    claims.equal("Private_Dirty is all of Rss", heap.map_or(0, |vma| vma.rss_kb), private, "kB", why);
    claims.equal(
        "Pss is Rss",
        heap.map_or(0, |vma| vma.rss_kb),
        heap.map(|vma| vma.pss_kb),
        "kB",
        "nobody shares it",
    );
    let touches = story.faults_in(PARENT, HEAP, Kind::Anon);
    let why = "each page that is in memory came by one first touch";
    claims.equal("first touches in the heap", resident.unwrap_or(0), touches, "pages", why);
    no_copies(lab, &story, PARENT, "a process that never forked shares with nobody");
    Ok(Outcome { story, report })
}

fn heap_touched(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("heap-touched", &[], &["process"])?;
    workload.go(PARENT, &[PARENT], "touched")?;
    let (story, report) = workload.finish()?;
    let claims = &mut lab.claims;
    let heap = story.mapping(PARENT, HEAP);
    let expected = Heap::here();
    claims.equal(
        "Size of the heap",
        expected.kb(),
        heap.map(|vma| vma.size_kb),
        "kB",
        "writing does not make it larger",
    );
    let why = format!("64 KiB that begin behind the allocator's notes lie on {} pages", expected.touched);
    let touched_kb = expected.touched_kb();
    claims.equal("Rss", touched_kb, heap.map(|vma| vma.rss_kb), "kB", &why);
    claims.equal("Pss", touched_kb, heap.map(|vma| vma.pss_kb), "kB", "nobody shares it");
    let why = "every page in memory was written by this process, which has it alone";
    claims.equal("Private_Dirty", touched_kb, heap.map(|vma| vma.private_dirty_kb), "kB", why);
    claims.equal(
        "Anonymous",
        touched_kb,
        heap.map(|vma| vma.anonymous_kb),
        "kB",
        "no file is behind the heap",
    );
    let touches = story.faults_in(PARENT, HEAP, Kind::Anon);
    claims.equal(
        "first touches in the heap",
        expected.touched,
        touches,
        "pages",
        "one fault brings in one page",
    );
    no_copies(lab, &story, PARENT, "a process that never forked shares with nobody");
    Ok(Outcome { story, report })
}

fn fork_shared(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("fork-shared", &[], &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], "touched")?;
    workload.go(PARENT, &[PARENT, CHILD], "forked")?;
    let (story, report) = workload.finish()?;
    let claims = &mut lab.claims;
    let why = "fork copies the table of mappings as it is";
    claims.equal("mappings that differ between the two", 0, differing_mappings(&story), "mappings", why);
    let expected = Heap::here();
    let touched_kb = expected.touched_kb();
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let heap = story.mapping(role, HEAP);
        let mut of = |field: &str, expected, get: fn(&Vma) -> u64, why| {
            claims.equal(format!("{field} of the {name}'s heap"), expected, heap.map(get), "kB", why);
        };
        of("Rss", touched_kb, |vma| vma.rss_kb, "each page counts in full for everybody who maps it");
        of("Pss", touched_kb / 2, |vma| vma.pss_kb, "each page counts half: two processes map it");
        of(
            "Shared_Dirty",
            touched_kb,
            |vma| vma.shared_dirty_kb,
            "written before the fork, mapped by two since",
        );
        of("Private_Dirty", 0, |vma| vma.private_dirty_kb, "no page is left to one alone");
    }
    let writable = |role| story.mapping(role, HEAP).filter(|vma| vma.perms == "rw-p").map(|_| 1);
    let both = writable(PARENT).zip(writable(CHILD)).map(|(one, other): (u64, u64)| one + other);
    let why = "the write protection is in the page tables; the mapping itself stays writable";
    claims.equal("heaps that maps still calls rw-p", 2, both, "mappings", why);
    let referenced = |role| story.mapping(role, HEAP).map(|vma| vma.referenced_kb);
    claims.check(
        Test::equal("Referenced of the parent's heap", touched_kb, referenced(PARENT))
            .unit("kB")
            .because("it has just written all of it")
            .unless(setting::access_bits_are_cleared()),
    );
    let why = "fork clears the mark of access in the child's entries, and the child has touched none of them";
    claims.check(
        Test::equal("Referenced of the child's heap", 0, referenced(CHILD))
            .unit("kB")
            .because(why)
            .unless(setting::fork_may_keep_access_bits().or_else(setting::access_bits_are_cleared)),
    );
    let (parent, child) = (story.process(PARENT), story.process(CHILD));
    let why = "the child's table points to the parent's frames";
    claims.equal(
        "heap pages with one frame for both",
        expected.touched,
        same_frames(parent, child),
        "pages",
        why,
    );
    no_copies(lab, &story, PARENT, "nobody wrote to the heap since the fork");
    no_copies(lab, &story, CHILD, "nobody wrote to the heap since the fork");
    counters_agree(lab, &story);
    Ok(Outcome { story, report })
}

fn child_writes(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("child-writes", &[], &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], "touched")?;
    workload.go(PARENT, &[PARENT, CHILD], "forked")?;
    workload.go(CHILD, &[CHILD], "child wrote")?;
    let (story, report) = workload.finish()?;
    let claims = &mut lab.claims;
    let expected = Heap::here();
    let touched_kb = expected.touched_kb();
    let copies = story.faults_in(CHILD, HEAP, Kind::Copy);
    claims.equal(
        "copies in the child's heap",
        expected.touched,
        copies,
        "pages",
        "one copy for each shared page written",
    );
    no_copies(lab, &story, PARENT, "the parent wrote nothing");
    let claims = &mut lab.claims;
    let faults = story.recent_faults_in(PARENT, HEAP);
    let why = "its pages become private because the child left them, which takes no fault";
    claims.equal("faults of any kind in the parent's heap meanwhile", 0, faults, "faults", why);
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let heap = story.mapping(role, HEAP);
        let mut of = |field: &str, expected, get: fn(&Vma) -> u64, why| {
            claims.equal(format!("{field} of the {name}'s heap"), expected, heap.map(get), "kB", why);
        };
        of("Shared_Dirty", 0, |vma| vma.shared_dirty_kb, "no page is mapped by both any more");
        of(
            "Private_Dirty",
            touched_kb,
            |vma| vma.private_dirty_kb,
            match role {
                PARENT => "the old frames, dirty since before the fork, are its alone now",
                _ => "its copies, which it has written",
            },
        );
        of("Pss", touched_kb, |vma| vma.pss_kb, "nothing is shared, nothing is halved");
        of("Rss", touched_kb, |vma| vma.rss_kb, "a copy takes the place of the shared page");
    }
    let (parent, child) = (story.process(PARENT), story.process(CHILD));
    let why = "each was copied to a frame of the child's own";
    claims.equal("heap pages with one frame for both", 0, same_frames(parent, child), "pages", why);
    let why = "who writes gets the new frame; the other keeps the old one";
    claims.equal(
        "frames that the parent's heap kept",
        expected.touched,
        same_frames(parent, story.process_before(PARENT)),
        "pages",
        why,
    );
    claims.equal(
        "frames that the child's heap kept",
        0,
        same_frames(child, story.process_before(CHILD)),
        "pages",
        why,
    );
    counters_agree(lab, &story);
    Ok(Outcome { story, report })
}

fn no_copies(lab: &mut Lab<'_>, story: &Story, role: usize, why: &str) {
    let claim = match role {
        CHILD => "copies in the child's heap",
        _ if story.process(CHILD).is_some() => "copies in the parent's heap",
        _ => "copies in the heap",
    };
    lab.claims.equal(claim, 0, story.faults_in(role, HEAP, Kind::Copy), "pages", why);
}

/// Two ways of counting in the tracer: the counters, and the pages it lists.
fn counters_agree(lab: &mut Lab<'_>, story: &Story) {
    let counted = story.process(CHILD).map_or(0, |process| process.counts.of(Kind::Copy));
    let listed = story.faults_of(CHILD, Kind::Copy);
    let why = "the tracer's counter for the child and its list of pages are kept apart, and must agree";
    lab.claims.equal("copies of the child, all mappings, listed page by page", counted, listed, "pages", why);
}

fn differing_mappings(story: &Story) -> Option<u64> {
    type Mapping<'a> = (u64, u64, &'a str, &'a str);
    let list = |role| {
        let vmas = &story.process(role)?.snapshot.vmas;
        Some(
            vmas.iter()
                .map(|vma| (vma.start, vma.end, &*vma.perms, &*vma.name))
                .collect::<Vec<Mapping<'_>>>(),
        )
    };
    let (parent, child) = (list(PARENT)?, list(CHILD)?);
    let missing =
        |from: &[Mapping<'_>], of: &[Mapping<'_>]| from.iter().filter(|vma| !of.contains(vma)).count();
    Some((missing(&parent, &child) + missing(&child, &parent)) as u64)
}

/// Pages of the heap behind which there is the same frame in both.
fn same_frames(one: Option<&Observed>, other: Option<&Observed>) -> Option<u64> {
    let heap = one?.snapshot.named(HEAP)?;
    Some(one?.same_frames(other?, &(heap.start..heap.end)))
}
