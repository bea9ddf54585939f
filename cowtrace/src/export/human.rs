//! The report for people.

use std::fmt::Write as _;

use super::{
    Style, forks, printable,
    table::{Columns, Tone, bytes, duration, fitting, quote, shorten, tail, thousands},
};
use crate::model::{BackendFacts, Faults, Folded, Process, RegionFaults, Report};

/// Mappings shown per process.
const REGIONS_SHOWN: usize = 6;

/// Columns that the numbers take: the rest is the process's or mapping's.
const NUMBER_COLUMNS: [&str; 9] =
    ["copies", "copied", "zero", "file", "ksm", "reuse", "shared", "anon", "denied"];

/// Renders the report; `top`: processes at most, 0 for all.
pub fn human(report: &Report, style: &Style, top: usize) -> String {
    let mut text = String::new();
    heading(&mut text, report, *style);
    processes(&mut text, report, *style, top);
    folded(&mut text, report, *style);
    super::pages::render(&mut text, report, *style, top);
    forks::render(&mut text, report, *style);
    super::latency::render(&mut text, report, *style);
    if let Some(stacks) = &report.stacks {
        super::stacks::stacks(&mut text, stacks, *style);
    }
    if report.fork_count() == 0 || report.stacks.is_some() {
        text.push('\n');
    }
    footing(&mut text, report, *style);
    text
}

fn sum(processes: &[Process], value: impl Fn(&Process) -> Option<u64>) -> Option<u64> {
    processes.iter().map(value).sum()
}

/// The command, how it ended and how long it took.
pub(super) fn title(text: &mut String, report: &Report, style: Style) {
    let ending = match report.exit_status {
        Some(status @ 0..=128) => format!("exit status {status}"),
        Some(status) => format!("ended by signal {}", status - 128),
        None if !report.complete => "end not recorded".to_owned(),
        None => "still running".to_owned(),
    };
    let took = duration(report.duration_ns);
    let (bold, plain) = emphasis(style);
    if report.command.is_empty() {
        let _ = writeln!(text, "\n{bold}what was running{plain}  (traced for {took})");
        return;
    }
    let command =
        shorten(&quote(&report.command), style.width.saturating_sub(ending.len() + took.len() + 16).max(20));
    let _ = writeln!(text, "\n{bold}{command}{plain}  ({ending}, {took})");
}

fn emphasis(style: Style) -> (&'static str, &'static str) {
    if style.color { ("\x1b[1m", "\x1b[0m") } else { ("", "") }
}

fn warning(style: Style) -> (&'static str, &'static str) {
    if style.color { ("\x1b[33m", "\x1b[0m") } else { ("", "") }
}

fn heading(text: &mut String, report: &Report, style: Style) {
    title(text, report, style);
    let faults = report.faults();
    let (bold, plain) = emphasis(style);
    let noun = |count: Option<u64>, one: &str, many: &str| {
        format!("{} {}", number(count), if count == Some(1) { one } else { many })
    };
    let size = faults
        .copy
        .map_or_else(String::new, |pages| format!(" ({})", bytes(pages * report.kernel.page_size)));
    match faults.copy {
        Some(_) => {
            let pages = noun(faults.copy, "page", "pages");
            let _ = writeln!(text, "{bold}{pages}{plain} copied because of a fork{size}");
        }
        None => {
            let pages = noun(report.sum(|p| p.wpcopy, |f| f.wpcopy), "page", "pages");
            let _ =
                writeln!(text, "{bold}{pages}{plain} copied or zeroed on a write, of kinds not known here");
        }
    }
    let _ = writeln!(
        text,
        "{} copied, {} replaced; {}\n",
        noun(faults.file, "private file page", "private file pages"),
        noun(faults.zero, "zero page", "zero pages"),
        noun(Some(report.process_count()), "process", "processes"),
    );
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "?".to_owned(), thousands)
}

fn cells(first: String, faults: &Faults, copied: Option<u64>, shown: &[bool; 9]) -> Vec<String> {
    let dot = |value: Option<u64>| match value {
        Some(0) => "·".to_owned(),
        other => number(other),
    };
    let copied = match copied {
        Some(0) => "·".to_owned(),
        other => other.map_or_else(|| "?".to_owned(), bytes),
    };
    let numbers = [
        dot(faults.copy),
        copied,
        dot(faults.zero),
        dot(faults.file),
        dot(faults.ksm),
        dot(faults.reuse),
        dot(faults.shared),
        dot(faults.anon),
        dot(faults.denied),
    ];
    let shown = numbers.into_iter().zip(shown).filter(|(_, shown)| **shown).map(|(cell, _)| cell);
    std::iter::once(first).chain(shown).collect()
}

/// Rare kinds get a column only if there are any.
fn columns(faults: &Faults) -> [bool; 9] {
    let any = |value: Option<u64>| value != Some(0);
    [true, true, true, true, any(faults.ksm), true, any(faults.shared), true, any(faults.denied)]
}

/// Columns in the order in which a narrow terminal loses them.
const DISPENSABLE: [usize; 7] = [7, 5, 6, 1, 3, 2, 4];

fn processes(text: &mut String, report: &Report, style: Style, top: usize) {
    let all = columns(&report.faults());
    let tables = (0..=DISPENSABLE.len()).map(|lost| {
        let mut shown = all;
        DISPENSABLE[..lost].iter().for_each(|&column| shown[column] = false);
        process_table(report, style, top, &shown)
    });
    text.push_str(&fitting(tables, style.width));
}

fn process_table(report: &Report, style: Style, top: usize, shown: &[bool; 9]) -> String {
    let header: Vec<&str> = std::iter::once("process / mapping")
        .chain(NUMBER_COLUMNS.into_iter().zip(shown).filter(|(_, shown)| **shown).map(|(name, _)| name))
        .collect();
    let mut table = Columns::new(style, &header);
    let label_width = style.width.saturating_sub(11 * (header.len() - 1)).clamp(20, 64);
    let mut order: Vec<&Process> = report.processes.iter().collect();
    let limit = if top == 0 { order.len() } else { top };
    if order.len() > limit {
        // The heaviest, in the order of their creation.
        order.sort_by_key(|p| std::cmp::Reverse((p.wpcopy, p.faults.anon)));
        order.truncate(limit);
        order.sort_by_key(|p| p.start_ns);
    }
    let hidden = report.processes.len() - order.len();
    for process in &order {
        let name = if process.cmdline.is_empty() { process.comm.clone() } else { quote(&process.cmdline) };
        let inside = process.ns_pid.map_or_else(String::new, |pid| format!(" ({pid} inside)"));
        let label = shorten(&format!("{}{inside} {name}", process.pid), label_width);
        table.row(&cells(label, &process.faults, process.copied_bytes, shown), Tone::Strong);
        regions(&mut table, process, report.kernel.page_size, shown, label_width);
    }
    if hidden > 0 {
        let (all, some) = (&report.processes, order.iter().map(|p| (*p).clone()).collect::<Vec<_>>());
        let rest = |value: fn(&Process) -> Option<u64>| Some(sum(all, value)? - sum(&some, value)?);
        let faults = Faults {
            copy: rest(|p| p.faults.copy),
            zero: rest(|p| p.faults.zero),
            file: rest(|p| p.faults.file),
            ksm: rest(|p| p.faults.ksm),
            reuse: rest(|p| p.faults.reuse),
            shared: rest(|p| p.faults.shared),
            anon: rest(|p| p.faults.anon),
            denied: rest(|p| p.faults.denied),
            ..Faults::default()
        };
        let label = format!("… {} more (--top 0 shows all)", thousands(hidden as u64));
        table.row(&cells(label, &faults, rest(|p| p.copied_bytes), shown), Tone::Faint);
    }
    if !report.folded.is_empty() {
        let label = format!("… {} ended, as sums by name", thousands(report.folded_processes()));
        let faults = Faults::sum(report.folded.iter().map(|folded| &folded.faults));
        let copied = report.folded.iter().map(|folded| folded.copied_bytes).sum();
        table.row(&cells(label, &faults, copied, shown), Tone::Faint);
    }
    if report.process_count() > 1 {
        let total = cells("total".to_owned(), &report.faults(), report.copied_bytes(), shown);
        table.row(&total, Tone::Strong);
    }
    table.render()
}

/// What the processes were that are only in the sums, as far as a line has room.
fn folded(text: &mut String, report: &Report, style: Style) {
    let Some((first, more)) = report.folded.split_first() else { return };
    let one = |folded: &Folded| format!("{} {}", printable(&folded.comm), thousands(folded.processes));
    let mut line = format!("ended    {}", one(first));
    for (shown, folded) in more.iter().enumerate() {
        let (word, left) = (one(folded), more.len() - shown);
        let end = format!(" and {left} more");
        if line.chars().count() + word.chars().count() + end.len() + 2 + KEEP_MORE.len() > style.width {
            line.push_str(&end);
            break;
        }
        line.push_str(", ");
        line.push_str(&word);
    }
    let _ = writeln!(text, "\n{line}{KEEP_MORE}");
}

/// How the sums by name become processes.
const KEEP_MORE: &str = " (--max-ended keeps more one by one)";

fn regions(table: &mut Columns, process: &Process, page_size: u64, shown: &[bool; 9], width: usize) {
    let worth = |region: &&RegionFaults| {
        let f = &region.faults;
        [f.copy, f.zero, f.file, f.ksm, f.denied].iter().any(|value| value.unwrap_or(0) > 0)
    };
    let interesting: Vec<&RegionFaults> = process.regions.iter().filter(worth).collect();
    for region in interesting.iter().take(REGIONS_SHOWN) {
        let name = if region.name.is_empty() { "[anon]" } else { &region.name };
        let label = format!("    {} {}", region.perms, tail(name, width.saturating_sub(9)));
        let f = &region.faults;
        let copied = [f.copy, f.file, f.ksm].into_iter().sum::<Option<u64>>().map(|pages| pages * page_size);
        table.row(&cells(label, f, copied, shown), Tone::Plain);
    }
    if interesting.len() > REGIONS_SHOWN {
        let label = format!("    … {} more mappings", interesting.len() - REGIONS_SHOWN);
        table.row(&[label], Tone::Faint);
    }
}

/// What the counts are without, and that copies may be among them that were dropped as they came too late.
fn limits(backend: &BackendFacts) -> String {
    let list = |word: &str, what: &[&str]| match what {
        [] => String::new(),
        _ => format!("; cannot {word}: {}", printable(&what.join(", "))),
    };
    let blind_to: Vec<&str> = backend.blind_to.iter().map(String::as_str).collect();
    let races = backend.unknown.iter().any(|reason| reason.starts_with("raced"));
    list("see", &blind_to) + &list("tell", if races { &["raced"] } else { &[] })
}

/// Whether a reason for missing figures is about one of the table's columns.
fn is_of_the_table(reason: &str) -> bool {
    let elsewhere = ["pinned", "raced", "thp_splits", "fork_ns"];
    let subjects = reason.split_once(':').map_or("", |(subjects, _)| subjects);
    subjects.split(", ").any(|subject| !elsewhere.contains(&subject))
}

/// What counted, what was lost, and what it cost.
pub(super) fn footing(text: &mut String, report: &Report, style: Style) {
    let kernel = &report.kernel;
    let _ = writeln!(
        text,
        "backend  {} on Linux {} {}{}",
        printable(&report.backend.name),
        printable(&kernel.release),
        printable(&kernel.arch),
        limits(&report.backend),
    );
    for reason in report.backend.unknown.iter().filter(|reason| is_of_the_table(reason)) {
        let _ = writeln!(text, "unknown  {}", printable(reason));
    }
    if !report.complete {
        let (warn, plain) = warning(style);
        let at = duration(report.duration_ns);
        let _ = writeln!(
            text,
            "{warn}not complete: the recorder ended early; last snapshot at {at} after the start{plain}"
        );
    }
    let lost = &report.lost;
    if lost.is_none() {
        let _ = writeln!(text, "lost     nothing");
    } else {
        let (warn, plain) = warning(style);
        let _ = writeln!(
            text,
            "{warn}lost     {} records, {} processes or threads{}, {} faults without a mapping{}{plain}",
            thousands(lost.events),
            thousands(lost.processes),
            if lost.processes > 0 { " (--max-tasks follows more)" } else { "" },
            thousands(lost.regions),
            match lost.stacks {
                0 => String::new(),
                stacks => format!(", {} copies without a stack", thousands(stacks)),
            } + &match lost.pages {
                0 => String::new(),
                pages => format!(
                    ", {} copies not counted by page (--max-pages has room for more)",
                    thousands(pages)
                ),
            },
        );
    }
    let cost = &report.tracer;
    let _ = writeln!(
        text,
        "tracer   {} of CPU time, {} of memory",
        duration(cost.cpu_ns),
        bytes(cost.max_rss_kb * 1024)
    );
}
