//! What a save costs, as a table and as a curve.

use cowtrace_abi::Kind;

use super::save::{FORKED, LOADED, Save, VALUE_BYTES, private_dirty_kb};
use crate::lab::{
    report::{Axis, Curve, Figures, Series},
    story::{CHILD, PARENT},
};

const MIB: f64 = (1 << 20) as f64;

/// What a save needs, and of what.
pub(super) fn table(save: &Save) -> Figures {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: Option<String>| {
        rows.push(vec![name.to_owned(), value.unwrap_or_else(|| "unknown".to_owned())]);
    };
    let of_parent = |name| save.story.process_at(name, PARENT);
    let info = |field| save.info.number(field).ok();
    let copied = save.last_of_both().and_then(|last| save.faults_of_both(Kind::Copy, last));
    let copied_bytes = copied.map(|pages| pages * save.page_size());
    let rss = of_parent(LOADED).map(|process| process.status.vm_rss_kb * 1024);
    row("keys", Some(save.keys.to_string()));
    row("dataset (VmRSS), MiB", rss.map(mib));
    row("page table (VmPTE), kB", of_parent(LOADED).map(|process| process.status.vm_pte_kb.to_string()));
    row(
        "fork as Redis measured it (latest_fork_usec), us",
        info("latest_fork_usec").map(|us| us.to_string()),
    );
    row("duration of the save, s", Some(format!("{:.1}", save.duration)));
    row("keys set meanwhile", Some(save.written.to_string()));
    row("bytes set meanwhile, MiB", Some(mib(save.written * VALUE_BYTES)));
    row("pages copied", copied.map(|pages| pages.to_string()));
    let per = |pages: Option<u64>, of: f64| pages.map(|pages| format!("{:.2}", pages as f64 / of));
    row("pages copied per key, first round", per(first_round(save), save.round as f64));
    row("pages copied per key, all rounds", per(copied, save.written as f64));
    let writing = save.times.last().copied().unwrap_or_default();
    row("pages copied per second of writing", per(copied, writing));
    row("extra memory (copies), MiB", copied_bytes.map(mib));
    let part = |extra: u64| rss.map(|rss| format!("{:.1}", extra as f64 * 100.0 / rss as f64));
    row("extra memory, % of the dataset", copied_bytes.and_then(part));
    row("rdb_last_cow_size, MiB", info("rdb_last_cow_size").map(mib));
    Figures {
        title: format!("What a save of {} needs", save.version),
        columns: vec!["figure".to_owned(), "measured".to_owned()],
        rows,
    }
}

/// Copies of both since the fork, up to the end of the first round.
pub(super) fn first_round(save: &Save) -> Option<u64> {
    save.faults_of_both(Kind::Copy, save.story.checkpoint("round 1")?)
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB)
}

/// The price of the save as it grows, by three that know it.
pub(super) fn curve(save: &Save) -> Curve {
    let begin = save.story.checkpoints.iter().position(|checkpoint| checkpoint.name == FORKED);
    let saving = || save.story.checkpoints.iter().skip(begin.unwrap_or(0)).zip(&save.times);
    let private = saving().filter_map(|(checkpoint, &at)| {
        Some([at, private_dirty_kb(checkpoint.process(CHILD)?) as f64 * 1024.0 / MIB])
    });
    let copies = saving().filter_map(|(checkpoint, &at)| {
        let pages = save.faults_of_both(Kind::Copy, checkpoint)?;
        Some([at, (pages * save.page_size()) as f64 / MIB])
    });
    let own = save.cow_sizes.iter().map(|&(at, bytes)| [at, bytes as f64 / MIB]);
    let last = save.info.number("rdb_last_cow_size").ok();
    let last = last.map(|bytes| [save.duration, bytes as f64 / MIB]);
    let series = |name: &str, points: Vec<[f64; 2]>| Series { name: name.to_owned(), measured: true, points };
    Curve {
        title: "What the save costs".to_owned(),
        x: Axis { label: "since the fork", unit: "s" },
        y: Axis { label: "memory", unit: "MiB" },
        series: vec![
            series("copies of both (tracer)", copies.collect()),
            series("the child's Private_Dirty (smaps)", private.collect()),
            series("what Redis says of it", own.chain(last).collect()),
        ],
    }
}
