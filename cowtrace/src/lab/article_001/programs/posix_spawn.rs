//! `posix-spawn`: no fork, no copy on write.

use cowtrace_abi::Kind;

use super::{
    super::SOURCE,
    launch::{BUFFER_BYTES, LAUNCHED, Launch},
};
use crate::lab::{
    claims::Test,
    experiment::{Experiment, Lab, Outcome},
    story::{Focus, PARENT},
};

pub(super) const POSIX_SPAWN: Experiment = Experiment {
    id: "posix-spawn",
    source: SOURCE,
    title: "posix_spawn does not use copy-on-write at all",
    about: "A process with 64 MiB of written memory starts a program with posix_spawn, waits for its end, \
            and writes to all of it.",
    expect: "No copy by anybody, no page tables, and no fault by the parent's writes: the child was a guest \
             in the parent's memory until it became the program.",
    lesson: "The C library has it done by clone with CLONE_VM and CLONE_VFORK, on a stack of its own: the \
             child has no memory that could be shared by copy-on-write, and the parent stands still until \
             the exec. So its cost does not grow with the parent, before or after.",
    focus: Focus::Buffer("the parent's buffer"),
    size: None,
    run: posix_spawn,
};

fn posix_spawn(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let launch = Launch::run(lab, "posix-spawn")?;
    let claims = &mut lab.claims;
    claims.check(
        Test::equal("launches that fork with copy-on-write under the hood", 1, launch.forks("fork"))
            .unit("forks")
            .known_wrong(
                "the C library asks for the parent's memory itself (CLONE_VM), as vfork does; before glibc \
                 2.24 it forked in some cases",
            ),
    );
    let why = "CLONE_VM: the child uses the parent's memory";
    claims.equal("launches like vfork", 1, launch.forks("vfork"), "forks", why);
    no_sharing(lab, &launch);
    let private = |checkpoint| launch.story.buffer_at(checkpoint, PARENT).map(|vma| vma.private_dirty_kb);
    let why = "there never was a second mapping of it";
    let all_kb = BUFFER_BYTES / 1024;
    lab.claims.equal("Private_Dirty of the buffer after it", all_kb, private(LAUNCHED), "kB", why);
    let Launch { story, report, .. } = launch;
    Ok(Outcome { story, report })
}

/// What a launch in the parent's own memory does not do.
pub(super) fn no_sharing(lab: &mut Lab<'_>, launch: &Launch) {
    let claims = &mut lab.claims;
    let why = "it has no memory of its own that a write could bring a copy into";
    claims.equal("pages that the child copied until the exec", 0, launch.by_child(Kind::Copy), "pages", why);
    let why = "it shares its pages with nobody";
    claims.equal("pages that the parent copied meanwhile", 0, launch.by_parent(Kind::Copy), "pages", why);
    let why = "the one set of tables is enough for both";
    claims.equal("launches that copied page tables", 0, launch.forks_with_tables(), "forks", why);
    let why = "the child became the program";
    claims.equal("launches that ended by exec", 1, launch.ended_by_exec(), "forks", why);
    let why = "no page was write-protected: unlike after a fork, nothing has to be taken back";
    claims.equal(
        "faults of any kind by the parent's next write to the buffer",
        0,
        launch.afterwards(None),
        "faults",
        why,
    );
}
