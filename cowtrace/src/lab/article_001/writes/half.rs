//! Half of the buffer, written by the child.

use cowtrace_abi::Kind;

use crate::{
    lab::{
        article_001::shared_buffer::{BOTH, Extent, FILLED, FORKED, ROLES},
        experiment::{Lab, Outcome},
        report::Figures,
        story::{CHILD, PARENT, Story},
    },
    proc::Vma,
};

const WROTE: &str = "child wrote half";

pub(super) fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let extent = Extent::of_bytes(lab.size_bytes);
    let mut workload = lab.start("half-heap", &[extent.pages.to_string()], ROLES)?;
    workload.go(PARENT, &[PARENT], FILLED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(CHILD, &[CHILD], WROTE)?;
    let (story, report) = workload.finish()?;
    counts(lab, &story, extent);
    figures(lab, &story, extent);
    lab.tables.push(before_and_after(&story));
    Ok(Outcome { story, report })
}

fn counts(lab: &mut Lab<'_>, story: &Story, extent: Extent) {
    let half = extent.pages / 2;
    let claims = &mut lab.claims;
    let copies = story.buffer_faults_before(WROTE, CHILD, Some(Kind::Copy));
    claims.equal("copies in the child's buffer", half, copies, "pages", "one for each page that it wrote to");
    let faults = story.buffer_faults_before(WROTE, PARENT, None);
    let why = "the parent did nothing";
    claims.equal("faults of any kind in the parent's buffer", 0, faults, "faults", why);
    let common = story.common_buffer_frames(PARENT, CHILD);
    let why = "what was not written stays shared";
    claims.equal("pages with one frame for both", extent.pages - half, common, "pages", why);
    let used = story.buffer_frames_in_use(WROTE);
    let why = "the buffer, and the child's copies";
    claims.equal("frames in use by both together", extent.pages + half, used, "frames", why);
    for (role, name) in BOTH {
        let alone = story
            .process(role)
            .map(|process| process.buffer_pages().iter().filter(|anon| anon.mapped_once).count() as u64);
        let why = "this is what smaps means by private: pagemap counts the same pages";
        claims.equal(format!("pages that only the {name} maps"), half, alone, "pages", why);
    }
}

fn figures(lab: &mut Lab<'_>, story: &Story, extent: Extent) {
    let (all_kb, half_kb) = (extent.all_kb(), extent.kb(extent.pages / 2));
    let rest_kb = all_kb - half_kb;
    for (role, name) in BOTH {
        let (before, after) = (story.buffer_at(FORKED, role), story.buffer_at(WROTE, role));
        let mut of = |field: &str, expected: [u64; 2], get: fn(&Vma) -> u64, why: &str| {
            let claim = |when| format!("{field} of the {name} {when}");
            lab.claims.equal(claim("before"), expected[0], before.map(get), "kB", why);
            lab.claims.equal(claim("after"), expected[1], after.map(get), "kB", why);
        };
        of(
            "Shared_Dirty",
            [all_kb, rest_kb],
            |vma| vma.shared_dirty_kb,
            "both map what neither wrote to since the fork; it is dirty since before",
        );
        let why = match role {
            PARENT => "the originals of what the child copied are left to the parent alone",
            _ => "its copies are its own",
        };
        of("Private_Dirty", [0, half_kb], |vma| vma.private_dirty_kb, why);
        of("Rss", [all_kb; 2], |vma| vma.rss_kb, "a copy takes the place of the shared page");
        let why = "a shared page counts half, a private one in full";
        of("Pss", [all_kb / 2, half_kb + rest_kb / 2], |vma| vma.pss_kb, why);
    }
}

/// What the drill asks to summarise.
fn before_and_after(story: &Story) -> Figures {
    type Field = (&'static str, fn(&Vma) -> u64);
    const FIELDS: [Field; 6] = [
        ("Rss", |vma| vma.rss_kb),
        ("Pss", |vma| vma.pss_kb),
        ("Shared_Clean", |vma| vma.shared_clean_kb),
        ("Shared_Dirty", |vma| vma.shared_dirty_kb),
        ("Private_Clean", |vma| vma.private_clean_kb),
        ("Private_Dirty", |vma| vma.private_dirty_kb),
    ];
    let columns = [(FORKED, CHILD), (WROTE, CHILD), (FORKED, PARENT), (WROTE, PARENT)];
    let row = |(name, get): Field| {
        let cell =
            |(when, role)| story.buffer_at(when, role).map_or_else(String::new, |vma| get(vma).to_string());
        std::iter::once(name.to_owned()).chain(columns.map(cell)).collect()
    };
    Figures {
        title: "The buffer in smaps before and after the child wrote to half of it (kB)".into(),
        columns: ["", "child before", "child after", "parent before", "parent after"].map(Into::into).into(),
        rows: FIELDS.map(row).into(),
    }
}
