//! `fork-timing`: what fork costs by the size of the process, and what writing costs.

mod rung;
mod shown;

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use cowtrace_abi::Kind;
use serde_json::Value;

use super::SOURCE;
use crate::lab::{
    claims::Test,
    experiment::{Experiment, Lab, Outcome},
    setting,
    size::{Bytes, Scale, kb},
    statistics::Line,
    story::{Focus, PARENT, Story},
};
use rung::{Cycle, Rung};

const MIB: u64 = 1 << 20;
/// For a million copies under a tracer on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(900);

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "fork-timing",
    source: SOURCE,
    title: "fork is cheap, but not free of size: page tables grow with the memory",
    about: "For each of several sizes, a process fills a block and forks children, one after the other: first \
            children that do nothing, then children that write the whole block. Each fork, each child's \
            writing, and the time until the child is gone are measured.",
    expect: "No copy in the block as long as nobody writes, and one per page and child when all is written, \
             which costs many times more than the fork. But fork itself takes longer the more memory there is.",
    lesson: "fork copies no memory, but it copies the page tables: 8 bytes for each page, and a reference \
             taken on it. So its time is a fixed part plus a part for each MiB. For a process of some MiB nobody \
             notices; for one of many GiB it is the stall that a snapshot begins with. The copies come later, \
             from whoever writes.",
    focus: Focus::Buffer("the block"),
    // A child that writes has it all once more; the rest is the lab's own, which keeps account of each copy.
    size: Some(Scale { default_bytes: 50 * MIB, least_bytes: 50 * MIB, peak_percent: 300 }),
    run,
};

fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut rungs = rung::ladder(lab.size_bytes);
    let args: Vec<String> =
        rungs.iter().flat_map(|rung| [rung.bytes.to_string(), rung.forks.to_string()]).collect();
    let mut workload = lab.start("fork-timing", &args, &["parent"])?;
    workload.patience(PATIENCE);
    for rung in &mut rungs {
        let size = Bytes(rung.bytes);
        lab.progress(format!("a process of {size} forks {} children, twice", rung.forks));
        workload.go(PARENT, &[PARENT], rung.filled())?;
        let mut cycles = |name: String| -> anyhow::Result<Vec<Cycle>> {
            workload.go(PARENT, &[PARENT], name)?;
            Ok(workload.take_samples().into_iter().map(Cycle::from).collect())
        };
        rung.idle = cycles(rung.idled())?;
        rung.writing = cycles(rung.written())?;
        workload.go(PARENT, &[PARENT], format!("{size} freed"))?;
    }
    let (story, report) = workload.finish()?;
    let measured = Measured::new(&rungs, &report)?;
    counts(lab, &story, &rungs);
    tables_copied(lab, &story, &measured);
    times(lab, &measured);
    lab.tables.extend(shown::tables(&measured));
    lab.curves.extend(shown::curves(&measured));
    Ok(Outcome { story, report })
}

/// What all rungs together show.
struct Measured<'a> {
    rungs: &'a [Rung],
    smallest: &'a Rung,
    largest: &'a Rung,
    /// ns of the fastest fork by MiB, nothing written.
    line: Line,
    /// Page tables that fork made, kB; by the child's process id.
    page_tables_kb: HashMap<u64, u64>,
}

impl<'a> Measured<'a> {
    fn new(rungs: &'a [Rung], report: &Value) -> anyhow::Result<Measured<'a>> {
        let smallest = rungs.first().context("no size to measure")?;
        let largest = rungs.last().context("no size to measure")?;
        let points: Vec<[f64; 2]> = rungs
            .iter()
            .map(|rung| Some([rung.mib(), rung.fastest_fork_ns()? as f64]))
            .collect::<Option<_>>()
            .context("the workload reported no times")?;
        let line = Line::through(&points).context("one size gives no line")?;
        let forks = report["forks"].as_array().map_or(&[][..], Vec::as_slice);
        let page_tables_kb = forks
            .iter()
            .filter_map(|fork| Some((fork["child"].as_u64()?, fork["page_table_kb"].as_u64()?)))
            .collect();
        Ok(Measured { rungs, smallest, largest, line, page_tables_kb })
    }

    /// Page tables of a child that did nothing, kB: of the median child.
    fn page_tables_kb(&self, rung: &Rung) -> Option<u64> {
        crate::lab::statistics::median(
            rung.idle.iter().filter_map(|cycle| self.page_tables_kb.get(&cycle.child).copied()),
        )
    }

    /// Part of fork's time at this size that grows with the size, by the line.
    fn growing_part(&self, mib: f64) -> f64 {
        // Noise can put the line's beginning below 0.
        (self.line.slope * mib / self.line.at(mib)).clamp(0.0, 1.0)
    }
}

fn counts(lab: &mut Lab<'_>, story: &Story, rungs: &[Rung]) {
    for rung in rungs {
        let (size, forks) = (Bytes(rung.bytes), rung.forks);
        let filled = story.process_at(&rung.filled(), PARENT);
        let pages = filled.map_or(0, |process| process.buffer_pages_in(rung.bytes));
        let copies =
            |checkpoint: &str| story.checkpoint(checkpoint)?.faults_of_all(&filled?.buffer, Kind::Copy);
        let why = "who only forks and ends changes nothing in the block";
        let claim = format!("copies in the block of {size}, {forks} children that do nothing");
        lab.claims.equal(claim, 0, copies(&rung.idled()), "pages", why);
        let why = format!("each child copies each of the {pages} pages on which the block lies");
        let claim = format!("copies in the block of {size}, {forks} children that write it");
        lab.claims.equal(claim, forks * pages, copies(&rung.written()), "pages", &why);
    }
}

fn tables_copied(lab: &mut Lab<'_>, story: &Story, measured: &Measured<'_>) {
    let (smallest, largest) = (measured.smallest, measured.largest);
    let grown = || measured.page_tables_kb(largest)?.checked_sub(measured.page_tables_kb(smallest)?);
    let page_size = story.process(PARENT).map_or(1, |process| process.snapshot.page_size);
    let tables =
        |rung: &Rung| story.process_at(&rung.filled(), PARENT).map_or(0, |process| process.buffer_tables());
    let (few, many) = (tables(smallest), tables(largest));
    // A table at either end may be there for a neighbour already; tables of tables may be new as well.
    let (table_kb, above) = (page_size / 1024, many * 8 / page_size);
    let more = many.saturating_sub(few);
    let expected = more.saturating_sub(2) * table_kb..=(more + 2 + above) * table_kb;
    let (small, large) = (Bytes(smallest.bytes), Bytes(largest.bytes));
    let covered = Bytes(page_size * (page_size / 8));
    lab.claims.within(
        format!("page tables that fork made at {large}, beyond those at {small}"),
        expected,
        grown(),
        "kB",
        &format!("a table has one page and describes {covered} of addresses"),
    );
    let own = |rung: &Rung| Some(story.status_at(&rung.filled(), PARENT)?.vm_pte_kb);
    let why = "the child gets a copy of each table that describes the block: the tracer's figure for the child \
               grows as VmPTE of the parent does";
    let expected = own(largest).zip(own(smallest)).map_or(0, |(large, small)| large.saturating_sub(small));
    lab.claims.equal("the parent's own page tables grow by as much", expected, grown(), "kB", why);
    let part = measured.page_tables_kb(largest).map(|kb| 100.0 * (kb * 1024) as f64 / largest.bytes as f64);
    lab.claims.check(
        Test::at_most(format!("fork duplicates page tables and not {large} of memory"), 1.0, part)
            .unit("% of the block")
            .because(format!(
                "8 bytes for each page of {page_size}, and some tables for program and libraries"
            ))
            .unless(setting::larger_pages()),
    );
}

fn times(lab: &mut Lab<'_>, measured: &Measured<'_>) {
    let (smallest, largest) = (measured.smallest, measured.largest);
    let (small, large) = (Bytes(smallest.bytes), Bytes(largest.bytes));
    let ratio = |of: Option<u64>, to: Option<u64>| Some(of? as f64 / to? as f64);
    let line = measured.line;
    lab.claims.check(
        Test::at_most(
            format!("without writes fork takes as long for {large} as for {small}: the ratio of the two"),
            1.25,
            ratio(largest.fork_ns(), smallest.fork_ns()),
        )
        .unit("times")
        .known_wrong(format!(
            "no page is copied, but every page-table entry is: {:.0} µs and {:.1} µs for each MiB of the \
             parent",
            line.fixed / 1e3,
            line.slope / 1e3
        ))
        .unless(setting::larger_pages()),
    );
    lab.claims.check(
        Test::at_least(
            format!("page tables dominate the cost of fork at {large}: what grows with size, of fork's time"),
            0.5,
            Some(measured.growing_part(largest.mib())),
        )
        .unit("of fork's time")
        .because("the rest (the process itself, its list of mappings) is the same for every size")
        .unless(setting::larger_pages()),
    );
    lab.claims.check(
        Test::at_least(
            format!(
                "writing {large} triggers the real copying: fork, writing and end against the same \
                     without writing"
            ),
            5.0,
            ratio(largest.writing_whole_ns(), largest.idle_whole_ns()),
        )
        .unit("times")
        .because(format!("each page costs a fault, a new frame and a copy of {} kB", kb(1))),
    );
    let writing = ratio(largest.write_ns(), largest.writing_whole_ns());
    lab.claims.check(
        Test::at_least(
            format!("part of the time of a child that writes {large} that goes into writing"),
            0.5,
            writing,
        )
        .unit("of the time")
        .because("the copies are made when the child writes, not by fork"),
    );
}
