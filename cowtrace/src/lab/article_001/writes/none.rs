//! No write at all: the child reads everything.

use cowtrace_abi::Kind;

use crate::lab::{
    article_001::shared_buffer::{BOTH, Extent, FILLED, FORKED, OTHER_FAULTS, ROLES, minor_faults, sum_kb},
    claims::Test,
    experiment::{Lab, Outcome},
    story::{CHILD, PARENT, Story},
};

const READ: &str = "child read";

/// Bytes of a page-table entry.
const ENTRY_BYTES: u64 = 8;
/// Page tables of the rest of the process: code, libraries, stack, and the levels above. Each has one page.
const OTHER_TABLES: u64 = 32;

pub(super) fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let extent = Extent::of_bytes(lab.size_bytes);
    let mut workload = lab.start("read-only-child", &[extent.pages.to_string()], ROLES)?;
    workload.go(PARENT, &[PARENT], FILLED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(CHILD, &[CHILD], READ)?;
    let same = workload.take_samples().first().map(|sample| sample[0]);
    let (story, report) = workload.finish()?;
    let claims = &mut lab.claims;
    let why = "it reads what was there at the fork";
    claims.equal("children that found every byte as before the fork", 1, same, "processes", why);
    faults(lab, &story);
    figures(lab, &story, extent);
    Ok(Outcome { story, report })
}

fn faults(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    for (role, name) in BOTH {
        let copies = story.buffer_faults_before(READ, role, Some(Kind::Copy));
        let why = "only a write can end the sharing";
        claims.equal(format!("copies in the {name}'s buffer"), 0, copies, "pages", why);
        let faults = story.buffer_faults_before(READ, role, None);
        let why = "fork has filled in the child's entries, readable as they are";
        claims.equal(format!("faults of any kind in the {name}'s buffer"), 0, faults, "faults", why);
    }
    let counted = minor_faults(story, CHILD, FORKED, READ);
    let why = "none for the buffer, however large it is; a few for code that the child has not run yet";
    claims.check(
        Test::at_most("minor faults of the child while it reads", OTHER_FAULTS, counted)
            .unit("faults")
            .because(why),
    );
}

fn figures(lab: &mut Lab<'_>, story: &Story, extent: Extent) {
    let claims = &mut lab.claims;
    let all_kb = extent.all_kb();
    for (role, name) in BOTH {
        let mapping = story.buffer_at(READ, role);
        let mut of = |field: &str, expected, measured, why| {
            claims.equal(format!("{field} of the {name}'s buffer"), expected, measured, "kB", why);
        };
        of(
            "Rss",
            all_kb,
            mapping.map(|vma| vma.rss_kb),
            "each page counts in full for everybody who maps it",
        );
        of("Pss", all_kb / 2, mapping.map(|vma| vma.pss_kb), "each page counts half: two processes map it");
        of(
            "Shared_Dirty",
            all_kb,
            mapping.map(|vma| vma.shared_dirty_kb),
            "written before the fork, and shared",
        );
        of("Private_Dirty", 0, mapping.map(|vma| vma.private_dirty_kb), "no page is left to one alone");
    }
    let rss = sum_kb(story, READ, |vma| vma.rss_kb);
    let why = "which looks as if fork had doubled the memory";
    claims.equal("Rss of both added up", 2 * all_kb, rss, "kB", why);
    let pss = sum_kb(story, READ, |vma| vma.pss_kb);
    let why = "which is what it really takes: Pss can be added up";
    claims.equal("Pss of both added up", all_kb, pss, "kB", why);
    let used = story.buffer_frames_in_use(READ);
    let why = "the same by frame numbers: one set of frames, which nobody has left";
    claims.equal("frames in use by both together", extent.pages, used, "frames", why);
    let tables = story.status_at(FORKED, CHILD).map(|status| status.vm_pte_kb);
    let least = extent.pages * ENTRY_BYTES / 1024;
    let why =
        "8 bytes for each page of the buffer, and the rest of the process: all that fork had to copy for it";
    claims.within(
        "page tables that fork made for the child",
        least..=least + extent.kb(OTHER_TABLES),
        tables,
        "kB",
        why,
    );
}
