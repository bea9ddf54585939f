//! One process: its kinds of faults, its mappings, its forks.

use ratatui::text::{Line, Span};

use super::{
    Looks,
    columns::{Column, Fitted, columns_of, pieces, tail},
    forks::ForkTable,
    numbers::{age, count},
    processes,
};
use crate::{
    export::{bytes, quote, thousands},
    model::RegionFaults,
    tui::model::{Frame, Row},
};

const COLUMNS: [Column; 8] = [
    Column { title: "COPIES", short: "COPIES", width: 9, least: 9, rank: 0, text: false },
    Column { title: "ZERO", short: "ZERO", width: 7, least: 7, rank: 2, text: false },
    Column { title: "FILE", short: "FILE", width: 7, least: 7, rank: 1, text: false },
    Column { title: "REUSE", short: "REUSE", width: 7, least: 7, rank: 4, text: false },
    Column { title: "ANON", short: "ANON", width: 9, least: 9, rank: 3, text: false },
    Column { title: "ADDRESS", short: "ADDRESS", width: 25, least: 25, rank: 6, text: true },
    Column { title: "PERM", short: "PERM", width: 4, least: 4, rank: 5, text: true },
    Column { title: "REGION", short: "REGION", width: 10, least: 4, rank: 0, text: true },
];

/// Lines of the command at most.
const COMMAND_LINES: usize = 4;

/// All lines about a process.
pub(super) fn lines(row: &Row, frame: &Frame, width: usize, looks: Looks) -> Vec<Line<'static>> {
    let process = &row.process;
    let mut lines = Vec::new();
    let inside = process.ns_pid.map_or_else(String::new, |pid| format!(" ({pid} inside)"));
    let life = match process.end_ns {
        Some(end) => format!("ended {} ago", age(frame.at_ns.saturating_sub(end))),
        None => format!("traced for {}", age(frame.at_ns.saturating_sub(process.start_ns))),
    };
    let name = format!("{}{inside} {}", process.pid, looks.clean(&process.comm));
    lines.push(pieces(
        vec![
            (Span::styled(name, looks.strong()), 0),
            (Span::raw(format!("parent {}", process.ppid)), 2),
            (Span::styled(life, if process.end_ns.is_some() { looks.notice() } else { looks.faint() }), 1),
        ],
        width,
    ));
    lines.extend(wrapped(&looks.clean(&quote(&process.cmdline)), width).into_iter().map(Line::from));
    lines.push(pieces(
        vec![
            (Span::raw(format!("{} copies/s", number(row.rates.copies, thousands))), 0),
            (Span::raw(format!("{}/s", number(row.rates.bytes, bytes))), 1),
            (Span::raw(format!("{} copied", row.figures.bytes.map_or_else(|| "?".to_owned(), bytes))), 2),
            (Span::raw(format!("{} of first touches", bytes(process.anon_bytes))), 3),
        ],
        width,
    ));
    lines.extend(kinds(row, width, looks));
    lines.push(Line::default());
    lines.extend(regions(&process.regions, width, looks));
    let of_it =
        |fork: &&crate::tui::model::ForkRow| [fork.fork.parent, fork.fork.child].contains(&process.pid);
    let table = ForkTable::new(frame, width, looks);
    let forks = table.rows(frame.forks.iter().filter(of_it));
    if !forks.is_empty() {
        lines.extend([Line::default(), table.titles()]);
        lines.extend(forks);
    }
    lines
}

/// Per second, in words.
fn number(rate: Option<f64>, words: fn(u64) -> String) -> String {
    rate.map_or_else(|| "?".to_owned(), |rate| words(rate.round() as u64))
}

/// Each kind that there is any of.
fn kinds(row: &Row, width: usize, looks: Looks) -> Vec<Line<'static>> {
    let f = &row.process.faults;
    let kinds = [
        ("copy", f.copy),
        ("zero", f.zero),
        ("file", f.file),
        ("ksm", f.ksm),
        ("hugetlb", f.hugetlb),
        ("pinned", f.pinned),
        ("reuse", f.reuse),
        ("shared", f.shared),
        ("anon", f.anon),
        ("denied", f.denied),
    ];
    let words: Vec<String> = kinds
        .into_iter()
        .filter(|(_, value)| *value != Some(0))
        .map(|(name, value)| format!("{name} {}", count(value, 14, looks)))
        .collect();
    wrapped(&words.join("  "), width).into_iter().map(Line::from).collect()
}

fn regions(regions: &[RegionFaults], width: usize, looks: Looks) -> Vec<Line<'static>> {
    let fitted = Fitted::new(&COLUMNS, width, looks);
    if regions.is_empty() {
        return vec![Line::styled("no faults in any region yet", looks.faint())];
    }
    let line = |region: &RegionFaults| {
        let faults = &region.faults;
        fitted.line(|place, width| match place {
            0 => count(faults.copy, width, looks),
            1 => count(faults.zero, width, looks),
            2 => count(faults.file, width, looks),
            3 => count(faults.reuse, width, looks),
            4 => count(faults.anon, width, looks),
            5 => format!("{:x}-{:x}", region.start, region.end),
            6 => region.perms.clone(),
            _ => tail(&processes::name(region, looks), width, looks),
        })
    };
    std::iter::once(fitted.titles(None)).chain(regions.iter().map(line)).collect()
}

/// A text in lines of this width; what is beyond the last of them is cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if columns_of(line) + 1 + columns_of(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines.truncate(COMMAND_LINES);
    lines
}
