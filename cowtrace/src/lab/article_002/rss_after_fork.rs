//! `rss-after-fork`: RSS of parent and child, before and after the child writes.

use cowtrace_abi::Kind;

use super::SOURCE;
use crate::{
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        report::Figures,
        setting,
        size::{Bytes, Scale, kb},
        story::{CHILD, Focus, PARENT, Since, Story},
    },
    proc::Vma,
};

const FILLED: &str = "filled";
const FORKED: &str = "forked";
const WROTE: &str = "child wrote";
const GONE: &str = "child gone";

/// VmRSS is kept in batches per CPU, and not exact on every kernel; the child maps some more pages of libraries.
const TOLERANCE: f64 = 0.02;
/// The same in pages, where pages are large.
const TOLERANCE_PAGES: u64 = 64;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "rss-after-fork",
    source: SOURCE,
    title: "RSS does not see copy-on-write: the same before and after all is copied",
    about: "A process fills a block and forks. The child looks at its RSS, writes the whole block, and looks \
            again. Then it ends.",
    expect: "The child's RSS holds the whole block at once, though not a page is its own. It is no larger \
             after the writes, though every page was copied meanwhile.",
    lesson: "RSS counts the pages that a process maps, whoever else maps them. A copy takes the place of the \
             shared page, so RSS stays. What moves is Private_Dirty, from 0 to the whole block in both \
             processes, and Pss, from one half to all. Sums of RSS over a family count shared memory once per \
             process; sums of Pss are the memory that is used.",
    focus: Focus::Buffer("the block"),
    size: Some(Scale { default_bytes: 50 << 20, least_bytes: 8 << 20, peak_percent: 250 }),
    run,
};

fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("rss-after-fork", &[lab.size_bytes.to_string()], &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], FILLED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(CHILD, &[CHILD], WROTE)?;
    workload.end(CHILD, &[], GONE)?;
    let (story, report) = workload.finish()?;
    let block = Block::new(&story, lab.size_bytes);
    rss(lab, &story, &block);
    mappings(lab, &story, &block);
    frames(lab, &story, &block);
    lab.tables.push(table(&story));
    Ok(Outcome { story, report })
}

/// What the block takes.
struct Block {
    bytes: u64,
    pages: u64,
    kb: u64,
}

impl Block {
    fn new(story: &Story, bytes: u64) -> Block {
        let (pages, page_size) = story
            .process_at(FILLED, PARENT)
            .map_or((0, 0), |process| (process.buffer_pages_in(bytes), process.snapshot.page_size));
        Block { bytes, pages, kb: pages * page_size / 1024 }
    }
}

/// What the source's program prints: VmRSS at four moments.
fn rss(lab: &mut Lab<'_>, story: &Story, block: &Block) {
    let rss = |name, role| Some(story.status_at(name, role)?.vm_rss_kb);
    let size = Bytes(block.bytes);
    let mut at_least = |claim: &str, name, role, why: &str| {
        let claim = format!("VmRSS {claim}");
        let test = Test::at_least(claim, block.bytes / 1024, rss(name, role)).unit("kB");
        lab.claims.check(test.because(why).unless(setting::larger_pages()));
    };
    let why = format!("all {size} were written");
    at_least("of the parent before the fork", FILLED, PARENT, &why);
    let why = "the child's page tables point to the parent's pages, and a page that is mapped counts";
    at_least("of the child before it writes", FORKED, CHILD, why);
    let mut same = |claim: &str, before: Option<u64>, after: Option<u64>, why: &str| {
        let (before, after) = (before.unwrap_or(0) as f64, after.map(|kb| kb as f64));
        let part = TOLERANCE.max(kb(TOLERANCE_PAGES) as f64 / before);
        let test = Test::near(claim, before, part, after).unit("kB").because(why);
        lab.claims.check(test.unless(setting::late_counters()));
    };
    let claim = "VmRSS of the child after it wrote is what it was before";
    let why = "each copy takes the place of a shared page that counted as well";
    same(claim, rss(FORKED, CHILD), rss(WROTE, CHILD), why);
    let claim = "VmRSS of the parent after the child is what it was before the fork";
    let why = "the parent kept its pages; the copies were the child's, and are gone with it";
    same(claim, rss(FILLED, PARENT), rss(GONE, PARENT), why);
}

/// What smaps says of the block.
fn mappings(lab: &mut Lab<'_>, story: &Story, block: &Block) {
    let claims = &mut lab.claims;
    let mut of = |field: &str, name, role, expected, get: fn(&Vma) -> u64, why: &str| {
        let who = if role == PARENT { "parent" } else { "child" };
        let claim = format!("{name}: {field} of the {who}'s block");
        claims.equal(claim, expected, story.buffer_at(name, role).map(get), "kB", why);
    };
    let rss: fn(&Vma) -> u64 = |vma| vma.rss_kb;
    let pss: fn(&Vma) -> u64 = |vma| vma.pss_kb;
    let private: fn(&Vma) -> u64 = |vma| vma.private_dirty_kb;
    let kb = block.kb;
    let why = "the bytes asked for, behind the allocator's own few bytes: one page more";
    of("Rss", FILLED, PARENT, kb, rss, why);
    of("Private_Dirty", FILLED, PARENT, kb, private, "written, and mapped by nobody else");
    of("Rss", FORKED, CHILD, kb, rss, "shared pages count in full");
    of("Private_Dirty", FORKED, CHILD, 0, private, "no page is the child's alone");
    of("Private_Dirty", FORKED, PARENT, 0, private, "nor the parent's, any more");
    of("Pss", FORKED, CHILD, kb / 2, pss, "each page counts half: two processes map it");
    of("Rss", WROTE, CHILD, kb, rss, "as many pages as before, but other ones");
    of("Private_Dirty", WROTE, CHILD, kb, private, "its copies, which it has alone");
    of("Private_Dirty", WROTE, PARENT, kb, private, "left alone with the old pages");
    of("Pss", WROTE, CHILD, kb, pss, "nothing is shared any more");
    of("Rss", GONE, PARENT, kb, rss, "the parent's pages were never touched");
    of("Private_Dirty", GONE, PARENT, kb, private, "still dirty, and its alone since the child's copies");
}

/// Copies and frames: what RSS does not see.
fn frames(lab: &mut Lab<'_>, story: &Story, block: &Block) {
    let claims = &mut lab.claims;
    let pages = block.pages;
    let copies = story.buffer_faults(CHILD, Kind::Copy, Since::Start);
    claims.equal("copies in the child's block", pages, copies, "pages", "one for each page of the block");
    let parent = story.process_at(FILLED, PARENT).map(|process| process.buffer.clone());
    let faults = parent.and_then(|range| story.faults(PARENT, Some(&range), None, Since::Checkpoint(FILLED)));
    let why = "it writes nothing after the fork";
    claims.equal("faults of any kind in the parent's block since the fork", 0, faults, "faults", why);
    let minor = |name| Some(story.status_at(name, CHILD)?.minor_faults);
    let counted = || minor(WROTE)?.checked_sub(minor(FORKED)?);
    let why = "the kernel's own counter sees each copy as a minor fault, and a few faults beside the block";
    claims.within("minor faults of the child while it wrote", pages..=pages + 64, counted(), "faults", why);
    let why = "both map the same pages";
    claims.equal(
        "frames for both blocks before the write",
        pages,
        story.buffer_frames_in_use(FORKED),
        "frames",
        why,
    );
    let why = "the memory in use has doubled, while neither RSS has moved";
    claims.equal("and after it", 2 * pages, story.buffer_frames_in_use(WROTE), "frames", why);
    let why = "who writes gets the new frame";
    let kept = story.kept_buffer_frames(PARENT, FILLED);
    claims.equal("frames that the parent's block kept to the end", pages, kept, "frames", why);
}

fn table(story: &Story) -> Figures {
    let moments = [
        ("parent, before the fork", FILLED, PARENT),
        ("child, before it writes", FORKED, CHILD),
        ("child, after it wrote", WROTE, CHILD),
        ("parent, after the child", GONE, PARENT),
    ];
    let row = |(label, name, role): (&str, &str, usize)| {
        let (status, block) = (story.status_at(name, role)?, story.buffer_at(name, role)?);
        let figures = [status.vm_rss_kb, block.rss_kb, block.pss_kb, block.private_dirty_kb];
        Some([label.to_owned()].into_iter().chain(figures.map(|kb| kb.to_string())).collect())
    };
    Figures {
        title: "RSS as the source's program prints it, and what it does not show; kB".to_owned(),
        columns: [
            "who and when",
            "VmRSS",
            "Rss of the block",
            "Pss of the block",
            "Private_Dirty of the block",
        ]
        .map(str::to_owned)
        .into(),
        rows: moments.into_iter().filter_map(row).collect(),
    }
}
