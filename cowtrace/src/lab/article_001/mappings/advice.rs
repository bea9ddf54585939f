//! `dontfork` and `wipeonfork`: memory that a child does not get.

use cowtrace_abi::Kind;

use super::{super::SOURCE, kb, sample};
use crate::lab::{
    claims::Test,
    experiment::{Experiment, Lab, Outcome},
    story::{CHILD, Focus, PARENT, Since, Story},
};

const LARGE_BYTES: u64 = 64 << 20;
/// Beside it, without advice.
const ORDINARY: u64 = 256;
/// To be wiped.
const SECRET: u64 = 256;

/// Of an entry in a page table.
const ENTRY_BYTES: u64 = 8;

pub(super) const DONTFORK: Experiment = Experiment {
    id: "dontfork",
    source: SOURCE,
    title: "MADV_DONTFORK: memory that the child does not have cannot be copied",
    about: "A process writes to a large buffer that has this advice and to a small one that has none, forks, \
            and writes to both again.",
    expect: "The child has no such mapping. The parent's large buffer stays private, and costs no fault and \
             no copy; the small one is copied page by page.",
    lesson: "For a large region that the child does not need, this advice saves what a fork costs: the \
             copies of the writes after it, and before that its page tables. The child must not touch the \
             addresses: nothing is there.",
    focus: Focus::Buffer("the buffer with the advice"),
    size: None,
    run: dontfork,
};

pub(super) const WIPEONFORK: Experiment = Experiment {
    id: "wipeonfork",
    source: SOURCE,
    title: "MADV_WIPEONFORK: the child finds zeros, and nothing is copied",
    about: "A process writes to a buffer with this advice and forks. The child reads one half and writes to \
            all of it; then the parent does.",
    expect: "The child reads zeros, and its writes bring in new pages as in a fresh mapping. The parent \
             keeps its pages to itself.",
    lesson: "The mapping is inherited, its content is not: neither is shared, so neither side ever copies. \
             That is meant for secrets, such as the state of a random number generator, that two processes \
             must not both have.",
    focus: Focus::Buffer("the buffer with the advice"),
    size: None,
    run: wipeonfork,
};

fn dontfork(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let large = LARGE_BYTES / procfs::page_size();
    let args = [large, ORDINARY].map(|pages| pages.to_string());
    let mut workload = lab.start("dontfork", &args, &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], TOUCHED)?;
    let [ordinary, ordinary_bytes, ..] = sample(&mut workload)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(PARENT, &[PARENT], "parent wrote")?;
    let (story, report) = workload.finish()?;

    let claims = &mut lab.claims;
    let why = "fork leaves a mapping with this advice out";
    claims.equal("mappings of the child where the parent's buffer is", 0, at_buffer(&story), "mappings", why);
    let status = |role| story.status_at(FORKED, role);
    let smaller =
        |of: fn(&crate::proc::Status) -> u64| Some(of(&status(PARENT)?).saturating_sub(of(&status(CHILD)?)));
    let why = "the child's address space is the parent's without the buffer";
    let less = smaller(|status| status.vm_size_kb);
    claims.equal("VmSize that the child has less than the parent", kb(large), less, "kB", why);
    let why = "nor does it have the page tables that map nothing else";
    let (own, tables) = (own_tables_kb(&story), smaller(|status| status.vm_pte_kb));
    claims.check(
        Test::at_least("VmPTE that the child has less than the parent", own.unwrap_or(0), tables)
            .unit("kB")
            .because(why),
    );
    let forked = story.buffer_at(FORKED, PARENT);
    let why = "nothing is shared, so nothing is given up";
    let private = forked.map(|vma| vma.private_dirty_kb);
    claims.equal("Private_Dirty of the parent's buffer after the fork", kb(large), private, "kB", why);
    claims.equal("its Shared_Dirty", 0, forked.map(|vma| vma.shared_dirty_kb), "kB", why);
    parent_is_left_alone(lab, &story, large);
    let range = ordinary..ordinary + ordinary_bytes;
    let copies = story.faults(PARENT, Some(&range), Some(Kind::Copy), Since::Checkpoint(FORKED));
    let why = "without the advice, each page is copied: the child has it, too";
    lab.claims.equal("copies by the parent in the buffer beside it", ORDINARY, copies, "pages", why);
    Ok(Outcome { story, report })
}

fn wipeonfork(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("wipeonfork", &[SECRET.to_string()], &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], TOUCHED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(CHILD, &[CHILD], "child read half")?;
    let [zeros, ..] = sample(&mut workload)?;
    workload.go(CHILD, &[CHILD], "child wrote")?;
    workload.go(PARENT, &[PARENT], "parent wrote")?;
    let [kept, ..] = sample(&mut workload)?;
    let (story, report) = workload.finish()?;

    let claims = &mut lab.claims;
    let child = story.buffer_at(FORKED, CHILD);
    let why = "unlike with MADV_DONTFORK, the mapping is inherited";
    claims.equal("Size of the child's mapping", kb(SECRET), child.map(|vma| vma.size_kb), "kB", why);
    claims.equal("Rss of it after the fork", 0, child.map(|vma| vma.rss_kb), "kB", "its pages are not");
    let half = SECRET / 2;
    let why = "memory that was never written reads as zeros";
    claims.equal("pages that the child read, and that are zero", half, Some(zeros), "pages", why);
    let faults = |kind| story.buffer_faults(CHILD, kind, Since::Start);
    let why = "there is no page to copy: nothing was inherited";
    claims.equal("copies by the child", 0, faults(Kind::Copy), "pages", why);
    let why = "where it had read, the zero page was mapped, which gives way to a page of its own";
    claims.equal(
        "of the child's writes, those that replaced the zero page",
        half,
        faults(Kind::Zero),
        "pages",
        why,
    );
    let why = "where it had not, it is a first touch as in any new mapping";
    claims.equal("of the child's writes, first touches", half, faults(Kind::Anon), "pages", why);
    let why = "nothing is shared, so nothing is given up";
    let private = story.buffer_at(FORKED, PARENT).map(|vma| vma.private_dirty_kb);
    claims.equal("Private_Dirty of the parent's buffer after the fork", kb(SECRET), private, "kB", why);
    let why = "only the child's view is wiped";
    claims.equal("pages in which the parent still finds what it wrote", SECRET, Some(kept), "pages", why);
    parent_is_left_alone(lab, &story, SECRET);
    Ok(Outcome { story, report })
}

const TOUCHED: &str = "touched";
const FORKED: &str = "forked";

/// The parent's write after the fork, to a buffer of so many pages that the child did not get.
fn parent_is_left_alone(lab: &mut Lab<'_>, story: &Story, pages: u64) {
    let buffer = story.process(PARENT).map(|process| process.buffer.clone());
    let any = buffer.and_then(|buffer| story.faults(PARENT, Some(&buffer), None, Since::Checkpoint(FORKED)));
    let why = "its pages were never write-protected, so it does not even fault";
    lab.claims.equal("faults of any kind by the parent's write to it", 0, any, "faults", why);
    let why = "no write was ever turned to another page";
    let kept = story.kept_buffer_frames(PARENT, TOUCHED);
    lab.claims.equal("frames that the parent's buffer kept since before the fork", pages, kept, "pages", why);
}

/// Mappings of the child that overlap with the parent's buffer.
fn at_buffer(story: &Story) -> Option<u64> {
    let buffer = &story.process(PARENT)?.buffer;
    let vmas = &story.process_at(FORKED, CHILD)?.snapshot.vmas;
    Some(vmas.iter().filter(|vma| vma.start < buffer.end && buffer.start < vma.end).count() as u64)
}

/// Page tables whose entries are all for the parent's buffer.
fn own_tables_kb(story: &Story) -> Option<u64> {
    let process = story.process_at(FORKED, PARENT)?;
    let (buffer, page_size) = (&process.buffer, process.snapshot.page_size);
    let reach = page_size / ENTRY_BYTES * page_size;
    let tables = (buffer.end / reach).checked_sub(buffer.start.div_ceil(reach))?;
    Some(tables * page_size / 1024)
}
