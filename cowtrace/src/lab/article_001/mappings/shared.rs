//! `map-shared`: what was shared before the fork stays shared.

use cowtrace_abi::Kind;

use super::{super::SOURCE, file::MappedFile, kb, sample};
use crate::lab::{
    claims::Test,
    experiment::{Experiment, Lab, Outcome},
    story::{CHILD, Focus, PARENT, Since},
};

const PAGES: u64 = 16;

pub(super) const MAP_SHARED: Experiment = Experiment {
    id: "map-shared",
    source: SOURCE,
    title: "Not every page is copy-on-write: shared mappings are shared for good",
    about: "A process writes to 16 pages each of shared anonymous memory, of a shared file and, for \
            comparison, of private memory, and forks. The child writes to all of them, then the parent to \
            the shared memory.",
    expect: "Copies in the private memory only. Through the shared mappings each sees what the other wrote.",
    lesson: "MAP_SHARED means that all mappers want the same page, so there is nothing to copy. fork does \
             not even copy its page-table entries: the child finds the page by a minor fault of its own. \
             Minor faults are no copies, and Private_Dirty can fall because somebody else looked.",
    focus: Focus::Buffer("the shared memory"),
    size: None,
    run: map_shared,
};

fn map_shared(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let file = MappedFile::new(PAGES)?;
    let args = [file.argument()?, PAGES.to_string()];
    let mut workload = lab.start("shared-memory", &args, &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], "touched")?;
    let [private_start, file_start, ..] = sample(&mut workload)?;
    workload.go(PARENT, &[PARENT, CHILD], "forked")?;
    workload.go(CHILD, &[CHILD], "child wrote")?;
    let [child_faults, ..] = sample(&mut workload)?;
    workload.go(PARENT, &[PARENT], "parent wrote")?;
    let [shared_seen, file_seen, private_seen, _] = sample(&mut workload)?;
    workload.go(CHILD, &[CHILD], "child read")?;
    let [child_saw, ..] = sample(&mut workload)?;
    let (story, report) = workload.finish()?;

    let claims = &mut lab.claims;
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let copies = story.buffer_faults(role, Kind::Copy, Since::Start);
        let why = "a write to a shared mapping is meant for everybody: there is one page, and it stays one";
        claims.equal(format!("copies by the {name} in the shared memory"), 0, copies, "pages", why);
    }
    let why = "the child wrote to the very page that the parent maps";
    claims.equal("pages in which the parent sees the child's write", PAGES, Some(shared_seen), "pages", why);
    let why = "and the other way round";
    claims.equal("pages in which the child sees the parent's write", PAGES, Some(child_saw), "pages", why);

    let at_fork = |role| story.buffer_at("forked", role);
    let why =
        "fork leaves the entries of shared mappings out: the page cache can always tell where the page is";
    claims.equal(
        "Rss of the child's shared memory after the fork",
        0,
        at_fork(CHILD).map(|vma| vma.rss_kb),
        "kB",
        why,
    );
    let why = "so until the child looks, the parent is the only one that maps it";
    let private = at_fork(PARENT).map(|vma| vma.private_dirty_kb);
    claims.equal("Private_Dirty of the parent's after the fork", kb(PAGES), private, "kB", why);
    let why = "each of its pages is looked up in the page cache once: a fault, but no copy";
    claims.equal("minor faults of the child's writes", PAGES, Some(child_faults), "faults", why);
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let shared = story.buffer_at("child wrote", role).map(|vma| vma.shared_dirty_kb);
        let why = "both map the same pages now, which one of them has written";
        claims.equal(
            format!("Shared_Dirty of the {name}'s after the child's write"),
            kb(PAGES),
            shared,
            "kB",
            why,
        );
    }

    let bytes = PAGES * procfs::page_size();
    let faults =
        |start: u64, kind| story.faults(CHILD, Some(&(start..start + bytes)), Some(kind), Since::Start);
    let why = "a shared file is shared in the same way; its page cache is the memory";
    claims.equal("copies by the child in the shared file", 0, faults(file_start, Kind::Copy), "pages", why);
    let why = "a clean page is write-protected, so that the kernel learns which pages to write back";
    claims.check(
        Test::equal(
            "write-protect faults of the child there, none of which copies",
            PAGES,
            faults(file_start, Kind::Shared),
        )
        .unit("faults")
        .because(why)
        .unless(file.in_memory()),
    );
    let why = "memory and file are one";
    claims.equal(
        "pages of the file in which the parent sees the child's write",
        PAGES,
        Some(file_seen),
        "pages",
        why,
    );
    claims.equal(
        "pages of the file on disk that have changed",
        PAGES,
        Some(file.changed_pages()?),
        "pages",
        why,
    );

    let why = "private anonymous memory is the classic case: each page is copied at the first write";
    claims.equal(
        "copies by the child in the private memory",
        PAGES,
        faults(private_start, Kind::Copy),
        "pages",
        why,
    );
    let why = "the child wrote to copies of its own";
    claims.equal(
        "pages of it in which the parent sees the child's write",
        0,
        Some(private_seen),
        "pages",
        why,
    );
    Ok(Outcome { story, report })
}
