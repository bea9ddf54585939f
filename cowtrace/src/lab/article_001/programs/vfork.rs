//! `vfork`: a child in its parent's memory; and whether that is worth it.

use super::{
    launch::{LAUNCHED, Launch, TOUCHED},
    posix_spawn::no_sharing,
    times::LaunchTimes,
};
use crate::lab::{
    claims::Test,
    experiment::{Experiment, Lab, Outcome},
    setting,
    story::{Focus, PARENT},
};

const SOURCE: &str = "003_7a15ca8c371e8a75.txt";
const STACK: &str = "[stack]";

/// Pages of the buffer that the step's child writes to.
const GUEST_PAGES: u64 = 16;

/// A large parent, and one that is as small as a process can be.
const LARGE_BYTES: u64 = 256 << 20;
const SMALL_PAGES: u64 = 16;

/// More than that is no longer negligible.
const NEGLIGIBLE: f64 = 1.1;

pub(super) const VFORK: Experiment = Experiment {
    id: "vfork",
    source: SOURCE,
    title: "vfork copies nothing, and with a large parent that is no trifle",
    about: "A process with 64 MiB of written memory calls vfork. The child writes to 16 pages of that and to \
            fresh pages of the stack, and becomes another program; then the parent writes to all. Last, \
            programs are started in three ways by a parent of 256 MiB and by a tiny one, and timed.",
    expect: "Not one copy: the child's writes are the parent's. And no page tables, which is what fork \
             spends its time on when the parent is large.",
    lesson: "Until its exec the child of vfork lives in the parent's memory, stack included, while the \
             parent stands still. The memory cost of fork and exec is negligible, too; the time is not, as \
             it grows with the parent's page tables. That is why posix_spawn is built like vfork.",
    focus: Focus::Named(STACK),
    size: None,
    run: vfork,
};

fn vfork(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let launch = Launch::run(lab, "vfork")?;
    lab.progress("timing");
    let large_pages = LARGE_BYTES / procfs::page_size();
    let (small, large) = (LaunchTimes::measure(lab, SMALL_PAGES)?, LaunchTimes::measure(lab, large_pages)?);
    let claims = &mut lab.claims;
    let why = "it is the same memory";
    let seen = Some(launch.written_by_child);
    claims.equal(
        "pages of the buffer in which the parent finds the child's write",
        GUEST_PAGES,
        seen,
        "pages",
        why,
    );
    let faults = launch.buffer().and_then(|buffer| launch.by_child_at(&buffer));
    let why = "they are writable in the parent's tables, which the child uses";
    claims.equal("faults of any kind by the child's writes to the buffer", 0, faults, "faults", why);
    let stack = |checkpoint| {
        Some(launch.story.process_at(checkpoint, PARENT)?.snapshot.named(STACK)?.private_dirty_kb)
    };
    let grown = stack(LAUNCHED)
        .zip(stack(TOUCHED))
        .map(|(after, before)| after.saturating_sub(before) * 1024 / procfs::page_size());
    let stack = launch.story.mapping(PARENT, STACK).map(|vma| vma.start..vma.end);
    let by_child = stack.as_ref().and_then(|stack| launch.by_child_at(stack));
    let by_parent = stack.and_then(|stack| launch.by_parent_at(&stack));
    let touched = by_child.zip(by_parent).map(|(child, parent)| child + parent);
    let why = "what the child touches first is the parent's from then on";
    claims.check(
        Test::at_least("pages of the stack that the child was the first to touch", 1, by_child)
            .unit("pages")
            .because(why),
    );
    let why = "smaps and the tracer agree on whose pages these are";
    claims.equal("pages by which the parent's stack has grown", touched.unwrap_or(0), grown, "pages", why);
    no_sharing(lab, &launch);

    let claims = &mut lab.claims;
    let ratio = large.fork_over_vfork();
    let of_tiny = small.fork_over_vfork().unwrap_or_default();
    let instead = format!(
        "fork copies the page tables of 256 MiB, and drops them again at the exec; vfork does not even look \
         at them. For a tiny parent it is {of_tiny:.1} times (least of 20 launches each)"
    );
    let claim = "time to start a program with fork, as a multiple of vfork's, 256 MiB";
    claims.check(
        Test::at_most(claim, NEGLIGIBLE, ratio)
            .unit("times")
            .known_wrong(instead)
            .unless(setting::larger_pages()),
    );
    let Launch { story, report, .. } = launch;
    lab.tables.push(LaunchTimes::table(&[("tiny", small), ("256 MiB", large)]));
    Ok(Outcome { story, report })
}
