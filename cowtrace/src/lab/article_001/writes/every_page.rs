//! One byte in each page, written by the child and then by the parent.

use cowtrace_abi::Kind;
use serde_json::Value;

use crate::lab::{
    article_001::{
        portions::{Portions, largest_gap_kb, private_dirty_over_copies, private_dirty_over_time},
        shared_buffer::{BOTH, Extent, FILLED, FORKED, OTHER_FAULTS, ROLES, minor_faults, sum_kb},
    },
    claims::Test,
    experiment::{Lab, Outcome},
    report::Figures,
    story::{CHILD, PARENT, Story},
};

const PARENT_TOO: &str = "parent wrote too";

/// Portions in which the child writes: fewer of a large buffer, because each checkpoint reads the page tables
/// of both processes.
const PORTIONS: u64 = 8;
const PORTIONS_OF_MANY: u64 = 4;
const MANY_PAGES: u64 = 1 << 18;

pub(super) fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let extent = Extent::of_bytes(lab.size_bytes);
    let portions =
        Portions::new(if extent.pages < MANY_PAGES { PORTIONS } else { PORTIONS_OF_MANY }, "written");
    let args = [extent.pages.to_string(), portions.count().to_string()];
    lab.progress("filling the buffer");
    let mut workload = lab.start("byte-per-page", &args, ROLES)?;
    workload.go(PARENT, &[PARENT], FILLED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    for name in portions.names() {
        lab.progress(format!("the child writes: {name}"));
        workload.go(CHILD, &[CHILD], name)?;
    }
    let ns: Vec<u64> = workload.take_samples().iter().map(|sample| sample[0]).collect();
    lab.progress("the parent writes");
    workload.go(PARENT, &[PARENT], PARENT_TOO)?;
    lab.progress("adding up");
    let (story, report) = workload.finish()?;
    counts(lab, &story, &report, extent, &portions);
    figures(lab, &story, extent, &portions);
    both_sides(lab, &story, extent, &portions);
    lab.curves.push(private_dirty_over_copies(&story, &portions, CHILD, extent));
    lab.curves.push(private_dirty_over_time(&story, &portions, CHILD, extent, &ns));
    lab.tables.push(times(&story, &portions, &ns));
    Ok(Outcome { story, report })
}

fn counts(lab: &mut Lab<'_>, story: &Story, report: &Value, extent: Extent, portions: &Portions) {
    let claims = &mut lab.claims;
    let copies = portions.copies(story, CHILD);
    let total = copies.last().copied();
    let why = "one byte is enough to have its page copied";
    claims.equal("copies in the child's buffer", extent.pages, total, "pages", why);
    let counted = minor_faults(story, CHILD, FORKED, portions.last());
    let why = "one for each copy, and hardly any besides: the kernel's own counter agrees with the tracer";
    let expected = extent.pages..=extent.pages + OTHER_FAULTS;
    claims.within("minor faults of the child while it writes", expected, counted, "faults", why);
    let listed = story.faults_of(CHILD, Kind::Copy);
    let counter = story.process(CHILD).map_or(0, |process| process.counts.of(Kind::Copy));
    let why = "the tracer's counter for the child and its list of pages are kept apart, and must agree";
    claims.equal("copies of the child, all mappings, listed page by page", counter, listed, "pages", why);
    let lost = report["lost"].as_object().map(|lost| lost.values().filter_map(Value::as_u64).sum());
    claims.equal("records that the tracer lost", 0, lost, "records", "its buffers are emptied all the time");
    let faults = portions.names().map(|name| story.buffer_faults_before(&name, PARENT, None)).sum();
    let why = "the child's writes are no business of the parent's page tables";
    claims.equal("faults of any kind in the parent's buffer meanwhile", 0, faults, "faults", why);
}

fn figures(lab: &mut Lab<'_>, story: &Story, extent: Extent, portions: &Portions) {
    let claims = &mut lab.claims;
    let (all_kb, last) = (extent.all_kb(), portions.last());
    for (role, name) in BOTH {
        let gap = largest_gap_kb(story, portions, role, CHILD, extent);
        let why = match role {
            PARENT => "each copy leaves the original to the parent alone",
            _ => "each copy is one page of its own more",
        };
        let claim = format!("Private_Dirty of the {name} less the child's copies: most at any checkpoint");
        claims.equal(claim, 0, gap, "kB", why);
        let mapping = story.buffer_at(last, role);
        let shared = mapping.map(|vma| vma.shared_dirty_kb);
        claims.equal(
            format!("Shared_Dirty of the {name}"),
            0,
            shared,
            "kB",
            "no page is mapped by both any more",
        );
        let rss = mapping.map(|vma| vma.rss_kb);
        let why = "a copy takes the place of the shared page: Rss of one process does not show the growth";
        claims.equal(format!("Rss of the {name}, as before"), all_kb, rss, "kB", why);
    }
    let pss = sum_kb(story, last, |vma| vma.pss_kb);
    claims.equal("Pss of both added up", 2 * all_kb, pss, "kB", "nothing is shared any more");
    let extra = story
        .buffer_frames_in_use(last)
        .zip(story.buffer_frames_in_use(FORKED))
        .map(|(now, then)| now - then);
    let why = "the whole buffer a second time";
    claims.equal("frames in use more than after the fork", extent.pages, extra, "frames", why);
}

fn both_sides(lab: &mut Lab<'_>, story: &Story, extent: Extent, portions: &Portions) {
    let claims = &mut lab.claims;
    claims.check(
        Test::at_most(
            "memory doubles only if both sides write every page: frames in use after one side did",
            2 * extent.pages - 1,
            story.buffer_frames_in_use(portions.last()),
        )
        .unit("frames")
        .known_wrong(
            "one side is enough, because each of its writes leaves the original to the other side; what the \
             other side writes then is not copied any more",
        ),
    );
    let faults = |kind| story.buffer_faults_before(PARENT_TOO, PARENT, Some(kind));
    let why = "the child has left all of its pages";
    claims.equal("the parent writes as well: copies in its buffer", 0, faults(Kind::Copy), "pages", why);
    let why = "its entries are read-only since the fork: a fault each, and the page is taken as it is";
    let reused = faults(Kind::Reuse);
    claims.equal("its write-protect faults without a copy", extent.pages, reused, "faults", why);
    let used = story.buffer_frames_in_use(PARENT_TOO);
    let why = "twice the buffer, whether one side has written or both";
    claims.equal("frames in use after both sides have written", 2 * extent.pages, used, "frames", why);
}

fn times(story: &Story, portions: &Portions, ns: &[u64]) -> Figures {
    let copies = portions.copies(story, CHILD);
    let before = std::iter::once(0).chain(copies.iter().copied());
    let row = |(((name, after), before), ns): (((String, &u64), u64), &u64)| {
        let pages = after - before;
        vec![name, pages.to_string(), format!("{:.1}", *ns as f64 / 1e6), (ns / pages.max(1)).to_string()]
    };
    Figures {
        title: "How long the child took for its writes, under the tracer".into(),
        columns: ["portion", "copies", "ms", "ns for each"].map(Into::into).into(),
        rows: portions.names().zip(&copies).zip(before).zip(ns).map(row).collect(),
    }
}
