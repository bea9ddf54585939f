//! One page, written by the parent and then by the child.

use cowtrace_abi::Kind;

use crate::lab::{
    article_001::shared_buffer::{BOTH, Extent, FILLED, FORKED, ROLES, minor_faults},
    experiment::{Lab, Outcome},
    story::{CHILD, PARENT, Since, Story},
};

const PAGES: u64 = 16;
/// The page in the middle is the one that is written.
const WRITTEN_PAGE: u64 = PAGES / 2;

const FIRST: &str = "parent wrote";
const SECOND: &str = "parent wrote again";
const CHILDS: &str = "child wrote";

/// What a process reported of the written page: first byte, and whether the rest is as before the fork.
#[derive(Clone, Copy)]
struct Content {
    first: u64,
    rest_as_before: u64,
}

pub(super) fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("parent-writes-page", &[PAGES.to_string()], ROLES)?;
    workload.go(PARENT, &[PARENT], FILLED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(PARENT, &[PARENT], FIRST)?;
    workload.go(PARENT, &[PARENT], SECOND)?;
    workload.go(CHILD, &[CHILD], CHILDS)?;
    let samples = workload.take_samples();
    let (story, report) = workload.finish()?;
    let content = |role: usize| {
        let [_, first, rest_as_before, _] = *samples.iter().find(|sample| sample[0] == role as u64)?;
        Some(Content { first, rest_as_before })
    };
    after_fork(lab, &story);
    first_write(lab, &story);
    contents(lab, content(PARENT), content(CHILD));
    later_writes(lab, &story);
    Ok(Outcome { story, report })
}

fn after_fork(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    let common = same_frames(story, (PARENT, FORKED), (CHILD, FORKED));
    claims.equal(
        "after the fork: pages with one frame for both",
        PAGES,
        common,
        "pages",
        "fork copies page-table entries, not pages",
    );
    claims.equal(
        "after the fork: frames in use by both together",
        PAGES,
        story.buffer_frames_in_use(FORKED),
        "frames",
        "a single copy of each page, mapped twice",
    );
    let writable = BOTH
        .iter()
        .filter(|&&(role, _)| story.buffer_at(FORKED, role).is_some_and(|mapping| mapping.perms == "rw-p"));
    let why = "it is the page-table entries that fork makes read-only; the mapping still allows writes, and so \
               the fault is answered with a copy and not with a signal";
    claims.equal(
        "after the fork: processes whose mapping is writable as before",
        2,
        Some(writable.count() as u64),
        "processes",
        why,
    );
}

fn first_write(lab: &mut Lab<'_>, story: &Story) {
    let extent = Extent::of_bytes(PAGES * procfs::page_size());
    let claims = &mut lab.claims;
    let faults = |role, kind| story.buffer_faults_before(FIRST, role, kind);
    let why = "the write finds a read-only entry: a fault, a new frame, and the old content in it";
    claims.equal("parent writes: copies in its buffer", 1, faults(PARENT, Some(Kind::Copy)), "pages", why);
    let why = "one protection fault, after which the instruction is run again and succeeds";
    claims.equal("parent writes: faults of any kind in its buffer", 1, faults(PARENT, None), "faults", why);
    let why = "its entry is not touched";
    claims.equal("parent writes: faults in the child's buffer", 0, faults(CHILD, None), "faults", why);
    let kept = |role| same_frames(story, (role, FORKED), (role, FIRST));
    let why = "all but the written page's: who writes gets the new frame";
    claims.equal("frames that the parent kept", PAGES - 1, kept(PARENT), "pages", why);
    claims.equal(
        "frames that the child kept",
        PAGES,
        kept(CHILD),
        "pages",
        "who does not write keeps the old ones",
    );
    let common = same_frames(story, (PARENT, FIRST), (CHILD, FIRST));
    let why = "the same address leads to two frames now: two processes, each with page tables of its own";
    claims.equal("pages that still have one frame for both", PAGES - 1, common, "pages", why);
    claims.equal(
        "frames in use by both together",
        PAGES + 1,
        story.buffer_frames_in_use(FIRST),
        "frames",
        "one copy was made",
    );
    let why = "of two who mapped the old frame one is left, which pagemap shows as mapped once";
    claims.equal("the written page: processes that map their frame alone", 2, alone(story), "processes", why);
    for (role, name) in BOTH {
        let mapping = story.buffer_at(FIRST, role);
        let private = mapping.map(|vma| vma.private_dirty_kb);
        let why = match role {
            PARENT => "the copy, which it has written",
            _ => "the old frame, dirty since before the fork, and its alone now",
        };
        claims.equal(format!("Private_Dirty of the {name}"), extent.kb(1), private, "kB", why);
        let shared = mapping.map(|vma| vma.shared_dirty_kb);
        let why = "the pages that nobody wrote to";
        claims.equal(format!("Shared_Dirty of the {name}"), extent.kb(PAGES - 1), shared, "kB", why);
    }
}

fn contents(lab: &mut Lab<'_>, parent: Option<Content>, child: Option<Content>) {
    let claims = &mut lab.claims;
    let first = |content: Option<Content>| content.map(|content| content.first);
    let why = "the write went to the new frame";
    claims.equal("byte that the parent finds where it wrote 2", 2, first(parent), "value", why);
    let why = "the child still maps the old frame";
    claims.equal("byte that the child finds there", 1, first(child), "value", why);
    let same = [parent, child].into_iter().flatten().map(|content| content.rest_as_before).sum();
    let why = "the whole page was copied, though only one byte was written";
    claims.equal("processes that find the rest of the page as before", 2, Some(same), "processes", why);
}

fn later_writes(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    let again = story.buffer_faults_before(SECOND, PARENT, None);
    let why = "its entry is writable since the first write";
    claims.equal("parent writes again: faults of any kind in its buffer", 0, again, "faults", why);
    let traced = story.faults(PARENT, None, None, Since::Checkpoint(FORKED)).unwrap_or(0);
    let counted = minor_faults(story, PARENT, FORKED, CHILDS);
    let why = "the kernel's own counter and the tracer agree on the whole process; besides the one in the buffer, the \
               kernel may write to the thread's data (rseq)";
    claims.equal("minor faults of the parent since the fork, as traced", traced, counted, "faults", why);
    let faults = |kind| story.buffer_faults_before(CHILDS, CHILD, Some(kind));
    let why = "its entry is read-only since the fork, and stayed so when the parent left the frame";
    claims.equal("child writes: write-protect faults without a copy", 1, faults(Kind::Reuse), "faults", why);
    let why = "nobody else has the frame: it becomes writable as it is";
    claims.equal("child writes: copies in its buffer", 0, faults(Kind::Copy), "pages", why);
    let kept = same_frames(story, (CHILD, FORKED), (CHILD, CHILDS));
    claims.equal("child writes: frames that it kept since the fork", PAGES, kept, "pages", why);
    let used = story.buffer_frames_in_use(CHILDS);
    let why = "of two users of a page, one copy serves both writes";
    claims.equal("at the end: frames in use by both together", PAGES + 1, used, "frames", why);
}

/// Pages of the buffer behind which two processes at two moments have the same frame.
fn same_frames(story: &Story, one: (usize, &str), other: (usize, &str)) -> Option<u64> {
    let at = |(role, name)| story.process_at(name, role);
    Some(at(one)?.same_buffer_frames(at(other)?))
}

/// Processes for whom the frame of the written page is mapped once, after the parent's first write.
fn alone(story: &Story) -> Option<u64> {
    let mut count = 0;
    for (role, _) in BOTH {
        let process = story.process_at(FIRST, role)?;
        let page = process.buffer.start / process.snapshot.page_size + WRITTEN_PAGE;
        count += u64::from(process.snapshot.anon_page(page)?.mapped_once);
    }
    Some(count)
}
