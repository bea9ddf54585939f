//! A child that exits: its parent's pages become private without a write, and later writes copy nothing.

use cowtrace_abi::Kind;

use super::{SOURCE, kb};
use crate::lab::{
    experiment::{Experiment, Lab, Outcome},
    story::{CHILD, Focus, PARENT, Story},
};

const PAGES: u64 = 1000;
const WRITTEN: u64 = 300;
const REST: u64 = PAGES - WRITTEN;

const FORKED: &str = "forked";
const SOME_WRITTEN: &str = "some written";
const GONE: &str = "child gone";
const REST_WRITTEN: &str = "rest written";

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "exit-unshares",
    source: SOURCE,
    title: "The child exits: pages become private without a write, and writes copy nothing",
    about: "Parent and child share 1000 pages. The parent writes to 300 of them, the child exits, the parent writes to \
            the other 700. The child writes nothing at all.",
    expect: "300 copies, which give both processes 300 private pages. The child's exit gives the parent the other 700, \
             without a fault. Its writes to these are 700 page faults and no copy.",
    lesson: "Private_Dirty grows through what others do, and page faults are not copies. After the child's exit the \
             pages are still write-protected, which only the next write finds out to be needless: reuse.",
    focus: Focus::Buffer("the buffer"),
    size: None,
    run: exit_unshares,
};

fn exit_unshares(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let args = [PAGES.to_string(), WRITTEN.to_string()];
    let mut workload = lab.start("exit-unshares", &args, &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], "touched")?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(PARENT, &[PARENT], SOME_WRITTEN)?;
    workload.end(CHILD, &[], GONE)?;
    workload.go(PARENT, &[PARENT], REST_WRITTEN)?;
    let own_counts: Vec<u64> = workload.take_samples().iter().map(|sample| sample[0]).collect();
    let (story, report) = workload.finish()?;
    shared(lab, &story, &own_counts);
    alone(lab, &story, &own_counts);
    Ok(Outcome { story, report })
}

fn shared(lab: &mut Lab<'_>, story: &Story, own_counts: &[u64]) {
    let claims = &mut lab.claims;
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let why = "the fork has made every page a shared one";
        let claim = format!("Private_Dirty of the {name} right after the fork");
        claims.equal(claim, 0, private_dirty(story, FORKED, role), "kB", why);
    }
    let why = "the child still maps each of these pages";
    let copies = story.buffer_faults_before(SOME_WRITTEN, PARENT, Some(Kind::Copy));
    claims.equal("copies when the parent writes 300 pages", WRITTEN, copies, "pages", why);
    let counted = own_counts.first().copied();
    let why = "by the process's own count (getrusage), which knows no kinds";
    claims.equal("minor faults of the parent while it writes 300 pages", WRITTEN, counted, "faults", why);
    for (role, name, why) in
        [(PARENT, "parent", "its copies"), (CHILD, "child", "the originals, which the parent has left to it")]
    {
        let claim = format!("Private_Dirty of the {name} after the parent's 300 writes");
        claims.equal(claim, kb(WRITTEN), private_dirty(story, SOME_WRITTEN, role), "kB", why);
    }
    let why = "it did nothing";
    let idle = story.buffer_faults_before(SOME_WRITTEN, CHILD, None);
    claims.equal(
        "faults of the child in the buffer while the parent writes 300 pages",
        0,
        idle,
        "faults",
        why,
    );
}

fn alone(lab: &mut Lab<'_>, story: &Story, own_counts: &[u64]) {
    let claims = &mut lab.claims;
    let why = "nobody else maps any of them now";
    let dirty = private_dirty(story, GONE, PARENT);
    claims.equal("Private_Dirty of the parent after the child's exit", kb(PAGES), dirty, "kB", why);
    let why = "the exit takes away the child's mappings, and touches none of the parent's";
    let idle = story.buffer_faults_before(GONE, PARENT, None);
    claims.equal("faults of the parent in the buffer while the child exits", 0, idle, "faults", why);
    let last = |kind| story.buffer_faults_before(REST_WRITTEN, PARENT, kind);
    let why = "there is nobody left to copy for";
    claims.equal(
        "copies when the parent writes the other 700 pages",
        0,
        last(Some(Kind::Copy)),
        "pages",
        why,
    );
    let why = "the pages are write-protected since the fork; the first write finds them exclusive";
    claims.equal(
        "reuses when the parent writes the other 700 pages",
        REST,
        last(Some(Kind::Reuse)),
        "pages",
        why,
    );
    let counted = own_counts.get(1).copied();
    let why = "a reuse is a minor fault like any other: who counts faults for copies is wrong by these";
    claims.equal(
        "minor faults of the parent while it writes the other 700 pages",
        REST,
        counted,
        "faults",
        why,
    );
    let kept = || {
        let (then, now) = (story.process_at(GONE, PARENT)?, story.process_at(REST_WRITTEN, PARENT)?);
        Some(then.same_buffer_frames(now))
    };
    let why = "a reuse changes no frame";
    claims.equal("frames that the parent kept through its last 700 writes", PAGES, kept(), "pages", why);
    let why = "they were private and dirty already";
    let dirty = private_dirty(story, REST_WRITTEN, PARENT);
    claims.equal("Private_Dirty of the parent after its last 700 writes", kb(PAGES), dirty, "kB", why);
}

fn private_dirty(story: &Story, name: &str, role: usize) -> Option<u64> {
    story.buffer_at(name, role).map(|vma| vma.private_dirty_kb)
}
