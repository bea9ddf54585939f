//! A child that saves the dataset while its parent writes to a tenth of it.

use crate::lab::{
    article_001::{
        portions::{Portions, largest_gap_kb, private_dirty_over_copies, private_dirty_over_time},
        shared_buffer::{BOTH, Extent, FILLED, FORKED, ROLES, sum_kb},
    },
    claims::Test,
    experiment::{Lab, Outcome},
    report::Figures,
    story::{CHILD, PARENT, Story},
};

const PORTIONS: u64 = 8;
/// The parent writes to one page of this many.
const TENTH: u64 = 10;
const SAVED: &str = "child exited";

/// How long the save takes: long against the time that a process may have to wait for a CPU, and long enough
/// for the copies of a large dataset.
const LEAST_MS: u64 = 800;
const PAGES_PER_MS: u64 = 100;

/// The rate is measured in the first half, by processes that may have to wait for a CPU.
const TIMING_PART: f64 = 0.1;
/// The source: a dataset of 20 GiB fits into 24 GiB; not 40 GiB.
const SOURCES_ROOM: f64 = 24.0 / 20.0;
const PERCENT_OF_TWO: f64 = 56.0;

/// What one process reports of one portion.
#[derive(Clone, Copy, Debug, Default)]
struct Portion {
    ns: u64,
    pages: u64,
    /// Pages that were as before the fork; of the child only.
    unchanged: u64,
}

/// What one would measure who has to say how much memory the save will need.
#[derive(Clone, Copy, Debug)]
struct Sizing {
    /// By the parent's clock, in the first half of the save.
    pages_per_second: f64,
    /// By the child's clock, the whole of it.
    seconds: f64,
}

impl Sizing {
    fn new(parent: &[Portion], child: &[Portion]) -> Sizing {
        let seconds =
            |portions: &[Portion]| portions.iter().map(|portion| portion.ns).sum::<u64>() as f64 / 1e9;
        let known = &parent[..parent.len() / 2];
        let written: u64 = known.iter().map(|portion| portion.pages).sum();
        Sizing { pages_per_second: written as f64 / seconds(known), seconds: seconds(child) }
    }

    /// Pages needed besides the dataset.
    fn extra_pages(self) -> f64 {
        self.pages_per_second * self.seconds
    }
}

pub(super) fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let extent = Extent::of_bytes(lab.size_bytes);
    let portions = Portions::new(PORTIONS, "saved");
    let ms = LEAST_MS.max(extent.pages / PAGES_PER_MS);
    let args = [extent.pages, PORTIONS, ms].map(|number| number.to_string());
    lab.progress("filling the dataset");
    let mut workload = lab.start("snapshot", &args, ROLES)?;
    workload.go(PARENT, &[PARENT], FILLED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    for name in portions.names() {
        lab.progress(format!("the child saves, the parent writes: {name}"));
        workload.go_together(&[PARENT, CHILD], name)?;
    }
    let samples = workload.take_samples();
    workload.end(CHILD, &[], SAVED)?;
    lab.progress("adding up");
    let (story, report) = workload.finish()?;
    let of = |wanted: usize| -> Vec<Portion> {
        let samples = samples.iter().filter(|[role, ..]| *role == wanted as u64);
        samples.map(|&[_, ns, pages, unchanged]| Portion { ns, pages, unchanged }).collect()
    };
    let (parent, child) = (of(PARENT), of(CHILD));
    let sizing = Sizing::new(&parent, &child);
    consistency(lab, &story, &child, extent, &portions);
    memory(lab, &story, extent, &portions);
    let peak = story.buffer_frames_in_use(portions.last());
    size(lab, sizing, peak, extent);
    lab.tables.push(table(sizing, peak, extent));
    lab.curves.push(private_dirty_over_copies(&story, &portions, PARENT, extent));
    let ns: Vec<u64> = child.iter().map(|portion| portion.ns).collect();
    lab.curves.push(private_dirty_over_time(&story, &portions, PARENT, extent, &ns));
    Ok(Outcome { story, report })
}

fn consistency(lab: &mut Lab<'_>, story: &Story, child: &[Portion], extent: Extent, portions: &Portions) {
    let claims = &mut lab.claims;
    let unchanged = child.iter().map(|portion| portion.unchanged).sum();
    let why = "it keeps the originals of what the parent writes to: that is why Redis forks";
    claims.equal(
        "pages that the child finds as they were at the fork",
        extent.pages,
        Some(unchanged),
        "pages",
        why,
    );
    let faults = portions.names().map(|name| story.buffer_faults_before(&name, CHILD, None)).sum();
    let why = "it reads, and reading is free; that the parent writes does not change this";
    claims.equal("faults of any kind in the child's buffer", 0, faults, "faults", why);
    let copies = portions.copies(story, PARENT).last().copied();
    let why = "one copy for each page that it writes to";
    claims.equal("copies in the parent's buffer", extent.pages / TENTH, copies, "pages", why);
    let faults = portions.names().map(|name| story.buffer_faults_before(&name, PARENT, None)).sum();
    claims.equal(
        "faults of any kind there",
        extent.pages / TENTH,
        faults,
        "faults",
        "no other page is touched",
    );
}

fn memory(lab: &mut Lab<'_>, story: &Story, extent: Extent, portions: &Portions) {
    let claims = &mut lab.claims;
    let (all_kb, last) = (extent.all_kb(), portions.last());
    let tenth_kb = extent.kb(extent.pages / TENTH);
    let extra = story
        .buffer_frames_in_use(last)
        .zip(story.buffer_frames_in_use(FORKED))
        .map(|(now, then)| now - then);
    let why = "a tenth of the dataset, as the source says of 2 GiB for 20 GiB: only what was written is there twice";
    claims.equal("frames in use more than after the fork", extent.pages / TENTH, extra, "frames", why);
    let pss = sum_kb(story, last, |vma| vma.pss_kb);
    let why = "the dataset and a tenth of it: smaps agrees with the frames";
    claims.equal("Pss of both added up", all_kb + tenth_kb, pss, "kB", why);
    for (role, name) in BOTH {
        let gap = largest_gap_kb(story, portions, role, PARENT, extent);
        let why = match role {
            PARENT => "each copy is one page of its own more",
            _ => "each copy leaves the original to the child: Redis sums this up as rdb_last_cow_size",
        };
        let claim = format!("Private_Dirty of the {name} less the parent's copies: most at any checkpoint");
        claims.equal(claim, 0, gap, "kB", why);
        let rss = story.buffer_at(last, role).map(|vma| vma.rss_kb);
        let why = "a copy takes the place of the shared page: Rss of one process does not show the growth";
        claims.equal(format!("Rss of the {name}'s buffer, as before"), all_kb, rss, "kB", why);
    }
    let why = "the originals of what was written go with the child";
    claims.equal(
        "frames in use after the child's exit",
        extent.pages,
        story.buffer_frames_in_use(SAVED),
        "frames",
        why,
    );
    let private = story.buffer_at(SAVED, PARENT).map(|vma| vma.private_dirty_kb);
    let why = "nobody shares any of it now";
    claims.equal("Private_Dirty of the parent after that", all_kb, private, "kB", why);
}

fn size(lab: &mut Lab<'_>, sizing: Sizing, peak: Option<u64>, extent: Extent) {
    let claims = &mut lab.claims;
    let extra = peak.map(|frames| frames.saturating_sub(extent.pages) as f64);
    let why = "the rate of the first half tells the need of the whole save, as every write meets a page that was not \
               written before; if some do not, it is less";
    claims.check(
        Test::near(
            "frames used besides the dataset: rate x duration",
            sizing.extra_pages(),
            TIMING_PART,
            extra,
        )
        .unit("frames")
        .because(why),
    );
    let times = |frames: u64| frames as f64 / extent.pages as f64;
    let why = "1.1 times the dataset: the source's 20 GiB of data fit into 24 GiB";
    claims.check(
        Test::at_most("memory in use at the peak, in datasets", SOURCES_ROOM, peak.map(times))
            .unit("datasets")
            .because(why),
    );
    let why = "a second dataset is what it would take if every page were written";
    let percent = peak.map(|frames| 50.0 * times(frames));
    claims.check(
        Test::at_most("the same, in percent of two datasets", PERCENT_OF_TWO, percent).unit("%").because(why),
    );
}

/// The source's formula, with what was measured.
fn table(sizing: Sizing, peak: Option<u64>, extent: Extent) -> Figures {
    let kb = |pages: f64| format!("{:.0} kB", pages * extent.kb(1) as f64);
    let all = extent.pages as f64;
    let rows = [
        ("dataset", kb(all)),
        ("write rate in the first half", format!("{:.0} new pages/s", sizing.pages_per_second)),
        ("duration of the save", format!("{:.3} s", sizing.seconds)),
        ("rate x duration", kb(sizing.extra_pages())),
        ("dataset + rate x duration", kb(all + sizing.extra_pages())),
        ("2 x dataset", kb(2.0 * all)),
        ("in use at the peak", peak.map_or_else(String::new, |frames| kb(frames as f64))),
    ];
    Figures {
        title: "Memory that this snapshot needs".into(),
        columns: ["", "measured"].map(Into::into).into(),
        rows: rows.map(|(name, figure)| vec![name.to_owned(), figure]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_the_parents_rate_times_the_childs_time() {
        let portion = |ns, pages| Portion { ns, pages, unchanged: 0 };
        let parent = [portion(500_000_000, 100), portion(250_000_000, 200), portion(9, 9), portion(9, 9)];
        let sizing = Sizing::new(&parent, &[portion(1_500_000_000, 4000), portion(500_000_000, 4000)]);
        assert!((sizing.pages_per_second - 400.0).abs() < 1e-9);
        assert!((sizing.extra_pages() - 800.0).abs() < 1e-9);
    }
}
