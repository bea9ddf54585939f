//! How much of the heap is copied: the pages that are written, by whichever side writes them first.

use cowtrace_abi::Kind;

use super::{SOURCE, kb};
use crate::{
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        size::Scale,
        story::{CHILD, Focus, PARENT, Story},
    },
    proc::Vma,
};

const HEAP: &str = "[heap]";

/// Each process writes one page in so many.
const SPARSENESS: u64 = 10;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "scattered-writes",
    source: SOURCE,
    title: "The heap is copied page by page, where it is written",
    about: "Parent and child share a heap. The child reads all of it, then writes one byte to a tenth of its pages, \
            drawn at random. The parent does the same with as many other pages, and then writes to those that the \
            child has written.",
    expect: "Reading copies nothing. Each first write to a page that both map copies this page and no other. The \
             pages that the child has copied are the parent's alone: its writes there find nobody to copy for.",
    lesson: "The kernel does not know what a heap is; it knows pages. What a fork costs later is the number of \
             different pages that either side writes first, wherever they lie.",
    focus: Focus::Named(HEAP),
    size: Some(Scale { default_bytes: 2 << 20, least_bytes: 256 << 10, peak_percent: 140 }),
    run: scattered_writes,
};

fn scattered_writes(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let pages = lab.size_bytes / procfs::page_size();
    let writes = pages / SPARSENESS;
    let args = [pages.to_string(), writes.to_string()];
    let mut workload = lab.start("scattered-writes", &args, &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], "touched")?;
    workload.go(PARENT, &[PARENT, CHILD], "forked")?;
    workload.go(CHILD, &[CHILD], "child read all")?;
    let read = workload.take_samples().first().map(|sample| sample[0]);
    workload.go(CHILD, &[CHILD], "child wrote")?;
    workload.go(PARENT, &[PARENT], "parent wrote others")?;
    workload.go(PARENT, &[PARENT], "parent wrote the same")?;
    let own_counts: Vec<u64> = workload.take_samples().iter().map(|sample| sample[0]).collect();
    let (story, report) = workload.finish()?;
    reading(lab, &story, pages, read);
    writing(lab, &story, [pages, writes], &own_counts);
    Ok(Outcome { story, report })
}

fn reading(lab: &mut Lab<'_>, story: &Story, pages: u64, same_content: Option<u64>) {
    let claims = &mut lab.claims;
    let why = "it reads the frames that the parent has written";
    claims.equal(
        "pages in which the child finds what the parent wrote before the fork",
        pages,
        same_content,
        "pages",
        why,
    );
    let why = "a page that may be read raises no write fault, and fork has left all of them readable";
    claims.equal(
        "copies and other write faults in the child's heap while it reads all of it",
        0,
        heap_faults(story, "child read all", CHILD, None),
        "faults",
        why,
    );
    let common = common_frames(story, "child read all");
    claims.equal(
        "heap pages with one frame for both after the child has read all",
        pages,
        common,
        "pages",
        "nobody wrote",
    );
    let dirty = heap_at(story, "child read all", CHILD).map(|vma| vma.private_dirty_kb);
    claims.equal(
        "Private_Dirty of the child's heap after it has read all",
        0,
        dirty,
        "kB",
        "nothing is its own yet",
    );
}

fn writing(lab: &mut Lab<'_>, story: &Story, [pages, writes]: [u64; 2], own_counts: &[u64]) {
    let claims = &mut lab.claims;
    let why = "each write is to another page, and a page is what is copied";
    let copies = heap_faults(story, "child wrote", CHILD, Some(Kind::Copy));
    claims.equal(
        "copies in the child's heap when it writes a byte to each tenth page",
        writes,
        copies,
        "pages",
        why,
    );
    let why = "each of these writes is a page fault, solved in memory; the tracer and the kernel's own counter of the \
               process (getrusage) must agree";
    claims.equal(
        "minor faults of the child while it writes these",
        writes,
        own_counts.first().copied(),
        "faults",
        why,
    );
    let why = "what was not written is shared as before: the heap is not copied as a whole";
    let common = common_frames(story, "child wrote");
    claims.equal(
        "heap pages with one frame for both after the child's writes",
        pages - writes,
        common,
        "pages",
        why,
    );
    for (role, name, why) in [
        (CHILD, "child", "its own copies"),
        (PARENT, "parent", "the child has left it alone with the originals of its copies"),
    ] {
        let dirty = heap_at(story, "child wrote", role).map(|vma| vma.private_dirty_kb);
        claims.equal(
            format!("Private_Dirty of the {name}'s heap after the child's writes"),
            kb(writes),
            dirty,
            "kB",
            why,
        );
    }
    let why = "it is the same for either side: who writes to a shared page first makes the copy";
    let copies = heap_faults(story, "parent wrote others", PARENT, Some(Kind::Copy));
    claims.equal(
        "copies in the parent's heap when it writes as many other pages",
        writes,
        copies,
        "pages",
        why,
    );
    let kept = || {
        let (then, now) =
            (story.process_at("forked", PARENT)?, story.process_at("parent wrote others", PARENT)?);
        Some(then.same_buffer_frames(now))
    };
    let why = "the writer gets the new frame, also if it is the parent";
    claims.equal(
        "frames that the parent's heap kept through its writes",
        pages - writes,
        kept(),
        "pages",
        why,
    );
    let why = "each of the two shares of pages exists twice now, all others once";
    let distinct = story.buffer_frames_in_use("parent wrote others");
    claims.equal(
        "frames behind the heap in both processes after the parent's writes",
        pages + 2 * writes,
        distinct,
        "pages",
        why,
    );

    let again = |kind| heap_faults(story, "parent wrote the same", PARENT, Some(kind));
    claims.check(
        Test::equal(
            "copies when the parent, too, writes the pages that the child has written: each such write copies",
            writes,
            again(Kind::Copy),
        )
        .unit("pages")
        .known_wrong(
            "the child's copy has left the page to the parent alone; its write still faults, because the page is still \
             write-protected, but the kernel sees that nobody else maps it and only allows the write",
        ),
    );
    let why = "a write-protect fault for each page, solved by reuse";
    claims.equal(
        "reuses when the parent writes the pages that the child has written",
        writes,
        again(Kind::Reuse),
        "pages",
        why,
    );
    let why = "also a reuse is a minor fault: minor faults are not copies";
    claims.equal(
        "minor faults of the parent while it writes these",
        writes,
        own_counts.get(2).copied(),
        "faults",
        why,
    );
}

fn heap_faults(story: &Story, name: &str, role: usize, kind: Option<Kind>) -> Option<u64> {
    let vma = heap_at(story, name, role)?;
    story.faults_before(name, role, &(vma.start..vma.end), kind)
}

fn heap_at<'a>(story: &'a Story, name: &str, role: usize) -> Option<&'a Vma> {
    story.process_at(name, role)?.snapshot.named(HEAP)
}

/// Pages of the buffer behind which parent and child have the same frame.
fn common_frames(story: &Story, name: &str) -> Option<u64> {
    Some(story.process_at(name, PARENT)?.same_buffer_frames(story.process_at(name, CHILD)?))
}
