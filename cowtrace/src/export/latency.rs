//! How long copies took, for people: processes and forks side by side.

use super::{
    Style,
    table::{Columns, Tone, duration, quote, shorten, thousands},
};
use crate::model::{CowTime, Report};

/// Processes, and forks, that have a line of their own.
const SHOWN: usize = 8;
/// Columns that the numbers take.
const NUMBERS_WIDTH: usize = 56;

/// The times of a report in which they were asked for: the processes and forks that spent most.
pub(super) fn render(text: &mut String, report: &Report, style: Style) {
    let processes: Vec<(String, CowTime)> = report
        .processes
        .iter()
        .filter_map(|process| {
            let name =
                if process.cmdline.is_empty() { process.comm.clone() } else { quote(&process.cmdline) };
            Some((format!("{} {name}", process.pid), process.cow_ns?))
        })
        .collect();
    if processes.is_empty() {
        return;
    }
    let forks: Vec<(String, CowTime)> = report
        .forks
        .iter()
        .flat_map(|fork| {
            let name = format!("{} → {}", fork.parent, fork.child);
            let side = |times: Option<CowTime>, side: &str| Some((format!("{name}, {side}"), times?));
            [side(fork.parent_cow_ns, "parent"), side(fork.child_cow_ns, "child")]
        })
        .flatten()
        .collect();
    let mut table = Columns::new(style, &["time in copies", "faults", "total", "p50", "p99", "max"]);
    rows(&mut table, processes, Tone::Strong, style);
    rows(&mut table, forks, Tone::Plain, style);
    if !text.ends_with("\n\n") {
        text.push('\n');
    }
    text.push_str(&table.render());
    // What follows brings its own empty line in the other cases.
    if report.fork_count() > 0 && report.stacks.is_none() {
        text.push('\n');
    }
}

fn rows(table: &mut Columns, mut all: Vec<(String, CowTime)>, tone: Tone, style: Style) {
    all.retain(|(_, times)| times.count > 0);
    all.sort_by_key(|(_, times)| std::cmp::Reverse(times.total));
    let hidden = all.len().saturating_sub(SHOWN);
    for (name, times) in all.into_iter().take(SHOWN) {
        let time = |ns: Option<u64>| ns.map_or_else(|| "?".to_owned(), precise);
        let cells = [
            shorten(&name, style.width.saturating_sub(NUMBERS_WIDTH).max(20)),
            thousands(times.count),
            duration(times.total),
            time(times.p50),
            time(times.p99),
            time(times.max),
        ];
        table.row(&cells, tone);
    }
    if hidden > 0 {
        table.row(&[format!("… {} more (JSON has all)", thousands(hidden as u64))], Tone::Faint);
    }
}

/// A fault takes few microseconds.
fn precise(ns: u64) -> String {
    if ns < 100_000 { format!("{:.1} µs", ns as f64 / 1e3) } else { duration(ns) }
}
