//! Reading maps the zero page, and the first write replaces it: a fault that looks like a copy, and is none.

use std::{collections::BTreeSet, ops::Range};

use anyhow::Context;
use cowtrace_abi::Kind;

use super::{SOURCE, kb};
use crate::{
    kernel::DelayAccounting,
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        story::{Focus, Observed, PARENT, Story},
    },
    proc::{FrameFlags, Pagemap, wpcopy_count},
};

const PAGES: u64 = 100;

const READ: &str = "read first";
const THEN_WRITTEN: &str = "then written";
const WRITTEN: &str = "written first";

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "zero-page",
    source: SOURCE,
    title: "Read before written: the zero page is replaced, not copied",
    about: "A process without any child reads 100 pages of new memory, then writes to them. After that it writes to \
            100 other pages at once.",
    expect: "Reading maps one and the same frame of zeros 100 times, and brings in no memory. The writes then hit pages \
             that are mapped and write-protected, as after a fork; but what they get is a new page of zeros. The other \
             pages come by first touches.",
    lesson: "Two ways to the same memory, and only one of them takes the write-protect path: the kernel's own count \
             of copies (taskstats) has the zero-page faults in it. Read before write costs two faults per page.",
    focus: Focus::Buffer("the buffer"),
    size: None,
    run: zero_page,
};

/// What was read while the process stood still.
#[derive(Default)]
struct Seen {
    /// Frames behind the pages that were read, and how many of the pages the kernel calls zero pages.
    frames: u64,
    zero_pages: u64,
    /// taskstats' count when the pages had been read, and when they had been written.
    wpcopy: [Option<u64>; 2],
    /// The process's own counts of minor faults: reading, writing, writing at once; the second figure of the first is
    /// the number of pages that read as zeros.
    samples: Vec<[u64; 4]>,
}

fn zero_page(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    // Without it (before Linux 5.14, or not built in) there is no count, and the claim about it says so.
    let accounting = DelayAccounting::hold().ok();
    let wpcopy = |pid| accounting.as_ref().and_then(|_| wpcopy_count(pid).ok().flatten());
    let mut workload = lab.start("zero-page", &[PAGES.to_string()], &["process"])?;
    workload.go(PARENT, &[PARENT], READ)?;
    let pid = workload.pid(PARENT).context("the process is gone")?;
    let mut seen = Seen::default();
    if let Some(process) = workload.story().process(PARENT) {
        (seen.frames, seen.zero_pages) = zero_frames(pid, &process.buffer)?;
    }
    seen.wpcopy[0] = wpcopy(pid);
    workload.go(PARENT, &[PARENT], THEN_WRITTEN)?;
    seen.wpcopy[1] = wpcopy(pid);
    workload.go(PARENT, &[PARENT], WRITTEN)?;
    seen.samples = workload.take_samples();
    let (story, report) = workload.finish()?;
    reading(lab, &story, &seen);
    writing(lab, &story, &seen);
    writing_at_once(lab, &story, &seen);
    Ok(Outcome { story, report })
}

/// Different frames behind these addresses, and pages that kpageflags calls zero pages. Snapshots leave them out, as
/// smaps does.
fn zero_frames(pid: u32, buffer: &Range<u64>) -> anyhow::Result<(u64, u64)> {
    let page_size = procfs::page_size();
    let (mut flags, mut list) = (FrameFlags::default(), Vec::new());
    Pagemap::open(pid)?.pages(buffer.start / page_size, buffer.end / page_size, |_, entry| {
        list.push(entry.frame());
    })?;
    let mut zero_pages = 0;
    for &frame in &list {
        zero_pages += u64::from(flags.is_zero_page(frame)?);
    }
    Ok((list.into_iter().collect::<BTreeSet<u64>>().len() as u64, zero_pages))
}

fn reading(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let zeros = seen.samples.first().map(|sample| sample[1]);
    claims.equal(
        "pages of new memory that read as zeros",
        PAGES,
        zeros,
        "pages",
        "nobody may see what others left in it",
    );
    let why = "each page is mapped when it is first read";
    let faults = seen.samples.first().map(|sample| sample[0]);
    claims.equal("minor faults while new memory is read", PAGES, faults, "faults", why);
    let why = "all of them map the one page that the kernel keeps for this";
    claims.equal("frames behind all these pages", 1, Some(seen.frames), "frames", why);
    let why = "kpageflags marks that frame as the zero page";
    claims.equal("of these pages, those that map the zero page", PAGES, Some(seen.zero_pages), "pages", why);
    let smaps = story.buffer_at(READ, PARENT);
    let why = "smaps does not count the zero page: reading alone has brought in no memory";
    claims.equal("Rss of the mapping after reading", 0, smaps.map(|vma| vma.rss_kb), "kB", why);
    let writes = buffer_faults(story, READ, None);
    claims.equal("write faults in the mapping until then", 0, writes, "faults", "nothing was written");
}

fn writing(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let faults = |kind| buffer_faults(story, THEN_WRITTEN, Some(kind));
    let why = "one for each page: the zero page may only be read, and a new page takes its place";
    claims.equal("zero-page faults when the pages are written", PAGES, faults(Kind::Zero), "pages", why);
    let why = "there is no content to copy, and nobody to share with";
    claims.equal("copies while the pages that were read are written", 0, faults(Kind::Copy), "pages", why);
    let why = "the pages were mapped already, though by a page that is nobody's";
    claims.equal(
        "first touches while the pages that were read are written",
        0,
        faults(Kind::Anon),
        "pages",
        why,
    );
    let counted = seen.samples.get(1).map(|sample| sample[0]);
    let why = "a second fault for each page, by the process's own count (getrusage)";
    claims.equal("minor faults while the pages that were read are written", PAGES, counted, "faults", why);
    let smaps = story.buffer_at(THEN_WRITTEN, PARENT);
    let private = smaps.map(|vma| vma.private_dirty_kb);
    claims.equal(
        "Private_Dirty of the mapping after writing",
        kb(PAGES),
        private,
        "kB",
        "each page is its own now",
    );

    let wpcopy = |process: &Observed| process.counts.wpcopy();
    let traced = || {
        let (before, after) = (story.process_at(READ, PARENT)?, story.process_at(THEN_WRITTEN, PARENT)?);
        wpcopy(after).checked_sub(wpcopy(before))
    };
    let [before, after] = seen.wpcopy;
    let counted = before.zip(after).and_then(|(before, after)| after.checked_sub(before));
    let why = "each zero-page fault goes through the path that copies: taskstats takes it for a copy, and tools that \
               show its count as copies are too high by these";
    let test = Test::equal(
        "the kernel's count of copies (taskstats wpcopy_count) while these pages are written",
        traced().unwrap_or_default(),
        counted,
    );
    let missing = counted.is_none().then(|| {
        "this kernel has no such count: it came with Linux 5.19, and needs CONFIG_TASK_DELAY_ACCT".to_owned()
    });
    claims.check(test.unit("entries").because(why).unless(missing));
    let elsewhere = traced().and_then(|all| all.checked_sub(faults(Kind::Zero)?));
    let why = "the process had its stack and its variables before";
    claims.equal("of these, what the tracer saw outside of the 100 pages", 0, elsewhere, "entries", why);
}

fn writing_at_once(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let faults = |kind| buffer_faults(story, WRITTEN, Some(kind));
    let why = "nothing was mapped: one fault makes a page and maps it";
    claims.equal(
        "first touches when pages are written that were never read",
        PAGES,
        faults(Kind::Anon),
        "pages",
        why,
    );
    let why = "the zero page was never there";
    claims.equal(
        "zero-page faults when pages are written that were never read",
        0,
        faults(Kind::Zero),
        "pages",
        why,
    );
    let counted = seen.samples.get(2).map(|sample| sample[0]);
    let why = "one fault per page, not two";
    claims.equal("minor faults while pages are written that were never read", PAGES, counted, "faults", why);
}

/// Faults in the mapping that the step was at work on.
fn buffer_faults(story: &Story, name: &str, kind: Option<Kind>) -> Option<u64> {
    story.faults_before(name, PARENT, &story.process_at(name, PARENT)?.buffer, kind)
}
