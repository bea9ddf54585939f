//! The bill of each fork, for people.

use std::fmt::Write as _;

use super::{
    Style, printable, siblings,
    stacks::short_path,
    table::{Columns, Tone, bar, bytes, duration, fitting, shorten, thousands},
};
use crate::model::{FoldedForks, Fork, ForkEnd, ForkKind, Report, rates};

/// Forks that have a line of their own, and the copies that make one worth it.
const SHOWN: usize = 8;
const WORTH_BYTES: u64 = 1 << 20;
/// Characters of a function and what called it.
const NAME: usize = 40;
/// Characters of the curve of copies over time.
const CURVE: usize = 24;

/// How many forks there were, and what the heaviest of them cost.
pub(super) fn render(text: &mut String, report: &Report, style: Style) {
    if report.fork_count() == 0 {
        return;
    }
    let count = |kind: ForkKind, end: ForkEnd| {
        report.forks.iter().filter(|f| f.kind == kind && f.ended_by == end).count() as u64
    };
    let folded = |value: fn(&FoldedForks) -> u64| report.folded.iter().map(|f| value(&f.forks)).sum::<u64>();
    let vforks = report.forks.iter().filter(|f| f.kind == ForkKind::Vfork).count() as u64;
    let vforks = vforks + folded(|forks| forks.vforks);
    let _ = writeln!(
        text,
        "\nforks    {} ({} to exec, {} to exit, {} still sharing), {} vforks",
        thousands(report.fork_count() - vforks),
        thousands(count(ForkKind::Fork, ForkEnd::Exec) + folded(|forks| forks.to_exec)),
        thousands(count(ForkKind::Fork, ForkEnd::Exit) + folded(|forks| forks.to_exit)),
        thousands(count(ForkKind::Fork, ForkEnd::Running)),
        thousands(vforks),
    );
    let siblings = siblings::render(report, style);
    text.push_str(&siblings);
    let mut heavy: Vec<&Fork> =
        report.forks.iter().filter(|fork| fork.extra_peak_bytes.unwrap_or(0) >= WORTH_BYTES).collect();
    if heavy.is_empty() {
        text.push_str(if siblings.is_empty() { "" } else { "\n" });
        return;
    }
    heavy.sort_by_key(|fork| std::cmp::Reverse(fork.extra_peak_bytes));
    let hidden = heavy.len().saturating_sub(SHOWN);
    heavy.truncate(SHOWN);
    heavy.sort_by_key(|fork| fork.at_ns);
    text.push('\n');
    text.push_str(&table(&heavy, style));
    if hidden > 0 {
        let _ = writeln!(text, " … {} more (JSON has all)", thousands(hidden as u64));
    }
    for fork in heavy {
        curve(text, fork);
        regions(text, fork, style.width);
        stacks(text, fork, style.width);
        foreseen(text, fork);
    }
    text.push('\n');
}

/// Columns of the bill, in the order in which they are shown, and in which a narrow terminal loses them (0: never).
const COLUMNS: [(&str, usize); 9] = [
    ("fork", 0),
    ("after", 2),
    ("fork()", 4),
    ("tables", 1),
    ("lifetime", 3),
    ("end", 5),
    ("by parent", 7),
    ("by child", 6),
    ("extra", 0),
];

fn cells(fork: &Fork) -> [String; 9] {
    let unknown = || "?".to_owned();
    let size = |value: Option<u64>| value.map_or_else(unknown, bytes);
    [
        format!("{} → {}", fork.parent, fork.child),
        duration(fork.at_ns),
        fork.fork_ns.map_or_else(unknown, duration),
        fork.page_table_kb.map_or_else(|| "·".to_owned(), |kb| bytes(kb * 1024)),
        fork.lifetime_ns.map_or_else(|| "·".to_owned(), duration),
        match fork.ended_by {
            ForkEnd::Exec => "exec",
            ForkEnd::Exit => "exit",
            ForkEnd::Running => "runs",
        }
        .to_owned(),
        size(fork.parent_copied_bytes),
        size(fork.child_copied_bytes),
        size(fork.extra_peak_bytes),
    ]
}

fn table(forks: &[&Fork], style: Style) -> String {
    let tables = (0..=COLUMNS.len()).map(|dropped| {
        let shown = |place: &usize| COLUMNS[*place].1 == 0 || COLUMNS[*place].1 > dropped;
        let shown: Vec<usize> = (0..COLUMNS.len()).filter(shown).collect();
        let header: Vec<&str> = shown.iter().map(|&place| COLUMNS[place].0).collect();
        let mut table = Columns::new(style, &header);
        for fork in forks {
            let cells = cells(fork);
            let row: Vec<String> = shown.iter().map(|&place| cells[place].clone()).collect();
            table.row(&row, Tone::Plain);
        }
        table.render()
    });
    fitting(tables, style.width)
}

/// Copies per second since the fork, as a curve.
fn curve(text: &mut String, fork: &Fork) {
    let rates = rates(&fork.series, CURVE.min(fork.series.len().saturating_sub(1)));
    let most = rates.iter().copied().fold(0.0, f64::max);
    if rates.len() < 4 || most <= 0.0 {
        return;
    }
    let bars: String = rates.iter().map(|&rate| bar(rate / most)).collect();
    let _ = writeln!(text, " {} → {}  {bars}  up to {}/s", fork.parent, fork.child, bytes(most as u64));
}

/// Where the copies are, as far as a line has room.
fn regions(text: &mut String, fork: &Fork, width: usize) {
    let words: Vec<(String, u64)> = fork
        .regions
        .iter()
        .map(|region| {
            let name = match region.name.as_str() {
                "" => format!("[anon {:#x}]", region.start),
                name => printable(name.rsplit('/').next().unwrap_or(name)).into_owned(),
            };
            (name, region.copied_bytes())
        })
        .collect();
    list(text, fork, "in", &words, width);
}

/// Which functions made them, each with what called it.
fn stacks(text: &mut String, fork: &Fork, width: usize) {
    let mut words: Vec<(String, u64)> = Vec::new();
    for stack in fork.stacks.iter().flatten() {
        let mut inner =
            stack.frames.iter().rev().take(2).map(|name| printable(&short_path(name)).into_owned());
        let name = inner.next().unwrap_or_default();
        let name = inner.next().map_or(name.clone(), |caller| format!("{name} ← {caller}"));
        let name = shorten(&name, NAME);
        match words.iter_mut().find(|(known, _)| *known == name) {
            Some((_, bytes)) => *bytes += stack.copied_bytes(),
            None => words.push((name, stack.copied_bytes())),
        }
    }
    list(text, fork, "by", &words, width);
}

/// Bytes by name, as far as a line has room.
fn list(text: &mut String, fork: &Fork, how: &str, words: &[(String, u64)], width: usize) {
    let mut line = format!(" {} → {}  {how}", fork.parent, fork.child);
    for (place, (name, sum)) in words.iter().enumerate() {
        let word = format!(" {name} {}", bytes(*sum));
        let rest: u64 = words[place..].iter().map(|(_, bytes)| bytes).sum();
        let end = format!(" and {} in {} more", bytes(rest), words.len() - place);
        let is_last = place + 1 == words.len();
        let needed = if is_last { 0 } else { end.chars().count() + 1 };
        if place > 0 && line.chars().count() + word.chars().count() + needed > width {
            line.push_str(&end);
            break;
        }
        if place > 0 {
            line.push(',');
        }
        line.push_str(&word);
    }
    if !words.is_empty() {
        let _ = writeln!(text, "{line}");
    }
}

/// What was expected when a quarter of the fork's life was over, and what it became.
fn foreseen(text: &mut String, fork: &Fork) {
    let (Some(lifetime_ns), Some(end)) = (fork.lifetime_ns, fork.extra_peak_bytes) else { return };
    let quarter_ns = fork.at_ns + lifetime_ns / 4;
    let Some(forecast) = fork.forecasts.iter().min_by_key(|f| f.at_ns.abs_diff(quarter_ns)) else { return };
    let _ = writeln!(
        text,
        " {} → {}  after {}, {} were expected ({} to {}); it became {}",
        fork.parent,
        fork.child,
        duration(forecast.at_ns.saturating_sub(fork.at_ns)),
        bytes(forecast.expected_bytes),
        bytes(forecast.low_bytes),
        bytes(forecast.high_bytes),
        bytes(end),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{export::human_tests::report, model::ForkStack};

    #[test]
    fn a_function_is_named_with_its_caller_and_counts_once() {
        let stack = |frames: &[&str], by_parent: u64| ForkStack {
            frames: frames.iter().map(|&name| name.into()).collect(),
            parent_copied_bytes: by_parent,
            child_copied_bytes: 4096,
        };
        let stacks = vec![
            stack(&["main", "read", "serve", "dictAdd"], 40 << 20),
            stack(&["main", "write", "serve", "dictAdd"], 8 << 20),
            stack(&["main", "[/usr/lib/libc.so.6+0x1234]"], 1 << 20),
            stack(&["a\x1b[31m"], 0),
        ];
        let fork = Fork { stacks: Some(stacks), ..report().forks[0].clone() };
        let mut text = String::new();
        super::stacks(&mut text, &fork, 100);
        assert_eq!(
            text,
            " 1 → 2  by dictAdd ← serve 48.0 MiB, [libc.so.6+0x1234] ← main 1.0 MiB, a\u{fffd}[31m 4.0 KiB\n"
        );
        text.clear();
        super::stacks(&mut text, &fork, 60);
        assert!(text.contains("and 1.0 MiB in 2 more"), "{text}");
    }
}
