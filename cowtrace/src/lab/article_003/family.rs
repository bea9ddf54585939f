//! Three generations that share one buffer: who writes leaves, the others go on sharing.

use cowtrace_abi::Kind;

use super::{SOURCE, kb};
use crate::{
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        story::{CHILD, Focus, GRANDCHILD, PARENT, Story},
    },
    proc::Vma,
};

const GENERATION_PAGES: u64 = 60;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "grandchild-writes",
    source: SOURCE,
    title: "Parent, child and grandchild: who writes leaves, the others go on sharing",
    about: "Three generations share one buffer. The grandchild writes to all of it; then the child; then the parent.",
    expect: "The grandchild gets frames of its own, and parent and child still share the old ones. When the child \
             writes as well, it gets its own, too, and the parent is left alone with the first frames.",
    lesson: "Sharing is between all who map a frame, not between a parent and its child. One who leaves changes \
             nothing between the others; the last one who is left owns the frame, and copies nothing any more: of \
             three processes, only two pay.",
    focus: Focus::Buffer("the buffer"),
    size: None,
    run: grandchild_writes,
};

const ROLES: [(usize, &str); 3] = [(PARENT, "parent"), (CHILD, "child"), (GRANDCHILD, "grandchild")];

fn grandchild_writes(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload =
        lab.start("grandchild-writes", &[GENERATION_PAGES.to_string()], &["parent", "child", "grandchild"])?;
    workload.go(PARENT, &[PARENT], "touched")?;
    workload.go(PARENT, &[PARENT, CHILD, GRANDCHILD], "three share")?;
    workload.go(GRANDCHILD, &[GRANDCHILD], "grandchild wrote")?;
    workload.go(CHILD, &[CHILD], "child wrote")?;
    workload.go(PARENT, &[PARENT], "parent wrote")?;
    let (story, report) = workload.finish()?;
    three_share(lab, &story);
    after_the_grandchild(lab, &story);
    after_the_child(lab, &story);
    after_the_parent(lab, &story);
    Ok(Outcome { story, report })
}

fn three_share(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    let why = "both forks left all pages where they were";
    let frames = story.buffer_frames_in_use("three share");
    claims.equal(
        "frames behind the buffer in all three after the forks",
        GENERATION_PAGES,
        frames,
        "pages",
        why,
    );
    for (role, name) in ROLES {
        let pss = story.buffer_at("three share", role).map(|vma| vma.pss_kb);
        let third = kb(GENERATION_PAGES) / 3;
        // smaps adds up thirds of pages, each rounded down.
        let why = "each page counts by thirds";
        claims.within(
            format!("Pss of the {name}'s buffer after the forks"),
            third - 1..=third,
            pss,
            "kB",
            why,
        );
    }
}

fn after_the_grandchild(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    const NAME: &str = "grandchild wrote";
    claims.check(
        Test::equal(
            "if only the grandchild writes, the child loses sharing as well: pages that parent and child still share",
            0,
            same(story, NAME, PARENT, CHILD),
        )
        .unit("pages")
        .known_wrong(
            "the grandchild's writes gave it frames of its own; parent and child still map the old ones, both of them",
        ),
    );
    let why = "each of its pages was copied to a frame of its own";
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let common = same(story, NAME, role, GRANDCHILD);
        claims.equal(
            format!("pages that {name} and grandchild still share after the grandchild's writes"),
            0,
            common,
            "pages",
            why,
        );
    }
    let copies = |role| story.buffer_faults_before(NAME, role, Some(Kind::Copy));
    let why = "one for each page, all of which were shared";
    claims.equal("copies of the grandchild", GENERATION_PAGES, copies(GRANDCHILD), "pages", why);
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let faults = story.buffer_faults_before(NAME, role, None);
        let why = "it did nothing";
        claims.equal(
            format!("faults of the {name} in its buffer while the grandchild writes"),
            0,
            faults,
            "faults",
            why,
        );
        let smaps = story.buffer_at(NAME, role);
        let mut of = |field: &str, expected, get: fn(&Vma) -> u64, why| {
            let claim = format!("{field} of the {name}'s buffer after the grandchild's writes");
            claims.equal(claim, expected, smaps.map(get), "kB", why);
        };
        of("Shared_Dirty", kb(GENERATION_PAGES), |vma| vma.shared_dirty_kb, "two still map each page");
        of("Private_Dirty", 0, |vma| vma.private_dirty_kb, "no page is its own");
        of("Pss", kb(GENERATION_PAGES) / 2, |vma| vma.pss_kb, "halves now, not thirds");
    }
    let dirty = story.buffer_at(NAME, GRANDCHILD).map(|vma| vma.private_dirty_kb);
    let why = "its copies";
    claims.equal(
        "Private_Dirty of the grandchild's buffer after its writes",
        kb(GENERATION_PAGES),
        dirty,
        "kB",
        why,
    );
}

fn after_the_child(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    const NAME: &str = "child wrote";
    let copies = story.buffer_faults_before(NAME, CHILD, Some(Kind::Copy));
    let why = "the parent still mapped each page";
    claims.equal("copies of the child when it writes as well", GENERATION_PAGES, copies, "pages", why);
    for (role, name, why) in [
        (PARENT, "parent", "both others have left; it did nothing"),
        (CHILD, "child", "its copies"),
        (GRANDCHILD, "grandchild", "as before"),
    ] {
        let dirty = story.buffer_at(NAME, role).map(|vma| vma.private_dirty_kb);
        let claim = format!("Private_Dirty of the {name}'s buffer after the child's writes");
        claims.equal(claim, kb(GENERATION_PAGES), dirty, "kB", why);
    }
    let faults = story.buffer_faults_before(NAME, PARENT, None);
    let why = "its pages became private because the others left them";
    claims.equal("faults of the parent in its buffer while the child writes", 0, faults, "faults", why);
    let kept = || {
        let (first, now) = (story.process_at("touched", PARENT)?, story.process_at(NAME, PARENT)?);
        Some(first.same_buffer_frames(now))
    };
    let why = "who does not write keeps the frames of before the forks";
    claims.equal("frames that the parent has had all along", GENERATION_PAGES, kept(), "pages", why);
    let frames = story.buffer_frames_in_use(NAME);
    let why = "each of the three has its own";
    claims.equal(
        "frames behind the buffer in all three after the child's writes",
        3 * GENERATION_PAGES,
        frames,
        "pages",
        why,
    );
}

fn after_the_parent(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    let faults = |kind| story.buffer_faults_before("parent wrote", PARENT, Some(kind));
    let why = "nobody else maps its pages any more: three processes, and two that copied";
    claims.equal("copies of the parent when it writes last", 0, faults(Kind::Copy), "pages", why);
    let why = "one write-protect fault for each page, which only allows the write";
    claims.equal(
        "reuses of the parent when it writes last",
        GENERATION_PAGES,
        faults(Kind::Reuse),
        "pages",
        why,
    );
}

/// Pages of the buffer behind which two processes have the same frame.
fn same(story: &Story, name: &str, one: usize, other: usize) -> Option<u64> {
    Some(story.process_at(name, one)?.same_buffer_frames(story.process_at(name, other)?))
}
