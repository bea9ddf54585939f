//! `lean-fork`: what a large block costs a fork, and what freeing it first saves.

use std::ops::RangeInclusive;

use cowtrace_abi::Kind;
use serde_json::Value;

use super::SOURCE;
use crate::lab::{
    claims::Test,
    experiment::{Experiment, Lab, Outcome},
    report::Figures,
    setting,
    size::{Bytes, Scale},
    statistics::median,
    story::{CHILD, Focus, Observed, PARENT, Since, Story},
};

const LOADED: &str = "loaded";
const LOADED_TIMED: &str = "loaded: forks timed";
const HEAVY: &str = "forked with it";
const WROTE: &str = "child wrote all";
const GONE: &str = "child gone";
const FREED: &str = "freed";
const FREED_TIMED: &str = "freed: forks timed";
const LEAN: &str = "forked without";

const LEAN_CHILD: usize = 2;
/// Timed with the block, and as many without.
const FORKS: u64 = 20;
/// What the block is filled with: the one value that is kept of it.
const IMPORTANT: u64 = b'C' as u64;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "lean-fork",
    source: SOURCE,
    title: "Free before fork: smaller child, faster fork, fewer copies to fear",
    about: "A process fills a large block, forks some children that end at once, and one that writes all it \
            inherited. Then it keeps one byte of the block, frees the rest, and does the same again.",
    expect: "Without the block the child's VmSize, its page tables, the time of fork and the pages that could \
             still be copied are all smaller, by what the block took.",
    lesson: "A child inherits everything, needed or not: addresses, page tables, and the duty to copy what \
             either side writes while both live. free() gives a block this large back to the kernel at once \
             (munmap), so the fork does not see it. Small blocks are another matter: the allocator keeps them, \
             and the child inherits them all the same.",
    focus: Focus::Buffer("the block"),
    size: Some(Scale { default_bytes: 100 << 20, least_bytes: 64 << 20, peak_percent: 250 }),
    run,
};

fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let args = [lab.size_bytes.to_string(), FORKS.to_string()];
    let mut workload = lab.start("lean-fork", &args, &["parent", "child", "lean child"])?;
    workload.go(PARENT, &[PARENT], LOADED)?;
    workload.go(PARENT, &[PARENT], LOADED_TIMED)?;
    let heavy_ns = median(workload.take_samples().into_iter().map(|[ns, ..]| ns));
    workload.go(PARENT, &[PARENT, CHILD], HEAVY)?;
    workload.go(CHILD, &[CHILD], WROTE)?;
    workload.end(CHILD, &[], GONE)?;
    workload.go(PARENT, &[PARENT], FREED)?;
    workload.go(PARENT, &[PARENT], FREED_TIMED)?;
    let lean_ns = median(workload.take_samples().into_iter().map(|[ns, ..]| ns));
    workload.go(PARENT, &[PARENT, LEAN_CHILD], LEAN)?;
    let important = workload.take_samples().first().map(|[byte, ..]| *byte);
    let (story, report) = workload.finish()?;
    let cost = |checkpoint, before, role, fork_ns| {
        Some(Cost::new(
            story.process_at(checkpoint, role)?,
            story.process_at(before, PARENT)?,
            &report,
            fork_ns?,
        ))
    };
    let heavy = cost(HEAVY, LOADED_TIMED, CHILD, heavy_ns);
    let lean = cost(LEAN, FREED_TIMED, LEAN_CHILD, lean_ns);
    let block = Block::new(&story, lab.size_bytes);
    freed(lab, &story, &block);
    forks(lab, &block, heavy.as_ref(), lean.as_ref());
    copies(lab, &story, &block);
    let why = "read before the block was freed, and kept in a variable";
    lab.claims.equal("the one value that the lean child needs", IMPORTANT, important, "value", why);
    lab.tables.push(table(&block, heavy.as_ref(), lean.as_ref()));
    Ok(Outcome { story, report })
}

/// What the block takes.
struct Block {
    bytes: u64,
    pages: u64,
    kb: u64,
    /// Its page tables.
    tables_kb: RangeInclusive<u64>,
}

impl Block {
    fn new(story: &Story, bytes: u64) -> Block {
        let loaded = story.process_at(LOADED, PARENT);
        let page_size = loaded.map_or(4096, |process| process.snapshot.page_size);
        let pages = loaded.map_or(0, |process| process.buffer_pages_in(bytes));
        let tables = loaded.map_or(0, |process| process.buffer_tables());
        // A table at either end may be there for a neighbour as well; tables of tables may be the block's own.
        let (table_kb, above) = (page_size / 1024, tables * 8 / page_size);
        let tables_kb = tables.saturating_sub(2) * table_kb..=(tables + 2 + above) * table_kb;
        Block { bytes, pages, kb: pages * table_kb, tables_kb }
    }
}

/// What a fork costs and the child begins with.
struct Cost {
    vm_size_kb: u64,
    page_tables_kb: u64,
    fork_ns: u64,
    /// Pages that are to be copied if the child writes all that it may.
    possible_copies: u64,
}

impl Cost {
    fn new(child: &Observed, parent_before: &Observed, report: &Value, fork_ns: u64) -> Cost {
        let forks = report["forks"].as_array().map_or(&[][..], Vec::as_slice);
        let pid = u64::from(child.snapshot.pid);
        let fork = forks.iter().find(|fork| fork["child"].as_u64() == Some(pid));
        Cost {
            vm_size_kb: child.status.vm_size_kb,
            page_tables_kb: fork.and_then(|fork| fork["page_table_kb"].as_u64()).unwrap_or(0),
            fork_ns,
            possible_copies: parent_before.snapshot.anon.len() as u64,
        }
    }
}

/// What free() gives back.
fn freed(lab: &mut Lab<'_>, story: &Story, block: &Block) {
    let claims = &mut lab.claims;
    let less = |get: fn(&Observed) -> u64| {
        get(story.process_at(GONE, PARENT)?).checked_sub(get(story.process_at(FREED, PARENT)?))
    };
    let why = "malloc had asked the kernel for a mapping just for the block, and free gives it back";
    claims.equal(
        "VmSize of the parent falls with free by",
        block.kb,
        less(|p| p.status.vm_size_kb),
        "kB",
        why,
    );
    let why = "a page table that describes no mapping any more is freed";
    claims.within(
        "VmPTE of the parent falls with free by",
        block.tables_kb.clone(),
        less(|p| p.status.vm_pte_kb),
        "kB",
        why,
    );
    let rows = story.ledger_to(FREED).unwrap_or_default();
    let unmapped: i64 = rows.iter().map(|row| -row.row.explained_pages.unmapped).sum();
    let why = "Private_Dirty falls because the mapping is gone: no fault, no copy";
    claims.equal(
        "pages that the ledger has as unmapped",
        block.pages,
        u64::try_from(unmapped).ok(),
        "pages",
        why,
    );
}

/// What the fork is spared.
fn forks(lab: &mut Lab<'_>, block: &Block, heavy: Option<&Cost>, lean: Option<&Cost>) {
    let claims = &mut lab.claims;
    let saved = |get: fn(&Cost) -> u64| get(heavy?).checked_sub(get(lean?));
    let size = Bytes(block.bytes);
    let why = "the child has the parent's mappings, whatever they are";
    claims.equal(
        "VmSize of the lean child is smaller by",
        block.kb,
        saved(|cost| cost.vm_size_kb),
        "kB",
        why,
    );
    let why = "one entry of 8 bytes for each page of the block";
    claims.within(
        "page tables that its fork made are smaller by",
        block.tables_kb.clone(),
        saved(|cost| cost.page_tables_kb),
        "kB",
        why,
    );
    let why = "each private page that the parent has is one that the child may have to copy";
    let expected = block.pages..=block.pages + 8;
    claims.within(
        "pages that could be copied are fewer by",
        expected,
        saved(|cost| cost.possible_copies),
        "pages",
        why,
    );
    let ratio = heavy.zip(lean).map(|(heavy, lean)| heavy.fork_ns as f64 / lean.fork_ns as f64);
    claims.check(
        Test::at_least(
            format!("fork with {size} takes longer than without: the ratio of the medians"),
            2.0,
            ratio,
        )
        .unit("times")
        .because("an entry to copy and a reference to take for each page, against a nearly empty process")
        .unless(setting::larger_pages()),
    );
}

/// What the two children copied.
fn copies(lab: &mut Lab<'_>, story: &Story, block: &Block) {
    let claims = &mut lab.claims;
    let heavy = story.buffer_faults(CHILD, Kind::Copy, Since::Start);
    let why = "the cost was possible, and here it came: the child wrote all of the block";
    claims.equal("copies of the child in the block it inherited", block.pages, heavy, "pages", why);
    let lean = story.faults_of(LEAN_CHILD, Kind::Copy);
    let why = "its stack and libc's data: there is little else left to copy";
    claims
        .check(Test::at_most("copies of the lean child, all mappings", 16, lean).unit("pages").because(why));
}

fn table(block: &Block, heavy: Option<&Cost>, lean: Option<&Cost>) -> Figures {
    let row = |label: String, cost: &Cost| {
        let fork_us = format!("{:.0}", cost.fork_ns as f64 / 1e3);
        let [size, tables, copies] =
            [cost.vm_size_kb, cost.page_tables_kb, cost.possible_copies].map(|figure| figure.to_string());
        vec![label, size, tables, fork_us, copies]
    };
    let with = heavy.map(|cost| row(format!("with {}", Bytes(block.bytes)), cost));
    let without = lean.map(|cost| row("freed before".to_owned(), cost));
    Figures {
        title: format!("A fork with the block, and one without; median of {FORKS} forks"),
        columns: [
            "fork",
            "VmSize of the child, kB",
            "page tables of the child, kB",
            "fork, µs",
            "pages that could be copied",
        ]
        .map(str::to_owned)
        .into(),
        rows: with.into_iter().chain(without).collect(),
    }
}
