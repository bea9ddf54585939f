//! A verification for people: a line for each process, what each oracle said, and the outcome as the last line.

use std::{collections::BTreeMap, fmt::Write as _};

use comfy_table::{Attribute, Cell, CellAlignment, Color, Row};

use super::{
    Style,
    human::{footing, title},
    lab::moves,
    printable,
    table::{cell, rendered, shorten, thousands, wrapping},
};
use crate::{
    ledger,
    verify::{LedgerReport, Oracle, Outcome, ProcessVerdict, Totals, Verdict, VerifyReport},
};

/// With more processes than this, those that are as they should be are summed up.
const ROWS: usize = 40;
/// Mappings of a process whose pages are not all explained.
const MAPPINGS: usize = 6;
const COMM_WIDTH: usize = 16;

/// Renders it.
pub fn verify(report: &VerifyReport, style: &Style) -> String {
    let mut text = String::new();
    title(&mut text, &report.report, *style);
    text.push('\n');
    text.push_str(&processes(report, *style));
    if let Some(ledger) = &report.ledger {
        text.push_str(&smaps(ledger, &report.processes, *style));
    }
    text.push_str("\noracles\n");
    for oracle in &report.oracles {
        let _ = writeln!(text, "  {:<14}{}", oracle.name.text(), printable(&said(oracle)));
    }
    footing(&mut text, &report.report, *style);
    let (paint, plain) = match (style.color, report.totals.verdict) {
        (false, _) => ("", ""),
        (true, Outcome::Exact) => ("\x1b[1;32m", "\x1b[0m"),
        (true, Outcome::Differs) => ("\x1b[1;31m", "\x1b[0m"),
        (true, Outcome::Incomplete | Outcome::Bounded) => ("\x1b[1;33m", "\x1b[0m"),
    };
    let _ = writeln!(text, "{paint}{}{plain}", outcome(report));
    text
}

fn said(oracle: &Oracle) -> String {
    let words = oracle.explanation.as_ref().or(oracle.why_not.as_ref());
    words.cloned().unwrap_or_default()
}

fn processes(report: &VerifyReport, style: Style) -> String {
    let all = &report.processes;
    let is_good = |row: &&ProcessVerdict| matches!(row.verdict, Verdict::Exact | Verdict::Bounded);
    let (mut shown, mut hidden): (Vec<_>, Vec<_>) = (all.iter().collect(), Vec::new());
    if all.len() > ROWS {
        (hidden, shown) = all.iter().partition(is_good);
    }
    let more_bad = shown.split_off(shown.len().min(ROWS));
    let mut table = wrapping(style);
    let header = ["pid", "comm", "cowtrace", "kernel", "faults", "verdict"];
    table.add_row(
        header
            .iter()
            .enumerate()
            .map(|(index, text)| faint(aligned(text.to_string(), !matches!(index, 1 | 5)), style)),
    );
    for row in &shown {
        table.add_row(cells(row, style));
    }
    for (rows, what) in [(&more_bad, "differ as well"), (&hidden, "are as they should be")] {
        if !rows.is_empty() {
            table.add_row(summed_up(rows, what, style));
        }
    }
    rendered(&table)
}

fn cells(row: &ProcessVerdict, style: Style) -> Row {
    let number = |value: Option<u64>| aligned(value.map_or_else(|| "?".to_owned(), thousands), true);
    Row::from([
        aligned(row.pid.to_string(), true),
        cell(&shorten(&row.comm, COMM_WIDTH)),
        number(row.wpcopy),
        number(row.kernel_wpcopy),
        aligned(bound(row), true),
        colored(cell(&words(row)), row.verdict, style),
    ])
}

/// The faults that were counted, and that there must be at least as many.
fn bound(row: &ProcessVerdict) -> String {
    let solved = row.minor_faults.zip(row.major_faults).map(|(minor, major)| minor + major);
    match (row.faults, solved) {
        (Some(counted), Some(solved)) => {
            let sign = if counted <= solved { "≤" } else { ">" };
            format!("{} {sign} {}", thousands(counted), thousands(solved))
        }
        (Some(counted), None) => thousands(counted),
        (None, Some(solved)) => format!("? ≤ {}", thousands(solved)),
        (None, None) => "?".to_owned(),
    }
}

fn words(row: &ProcessVerdict) -> String {
    let verdict = match row.verdict {
        Verdict::Exact => "exact".to_owned(),
        Verdict::Differs => match row.wpcopy.zip(row.kernel_wpcopy) {
            Some((ours, kernels)) if ours != kernels => {
                format!("differs by {}", thousands(ours.abs_diff(kernels)))
            }
            _ => "differs".to_owned(),
        },
        Verdict::Running => "still running".to_owned(),
        Verdict::NoRecord => "no exit record".to_owned(),
        Verdict::NotTraced => "not traced".to_owned(),
        Verdict::Bounded => "not contradicted".to_owned(),
    };
    match &row.explanation {
        Some(why) => format!("{verdict}: {why}"),
        None => verdict,
    }
}

/// Several rows as one.
fn summed_up(rows: &[&ProcessVerdict], what: &str, style: Style) -> Row {
    let sum = |of: fn(&ProcessVerdict) -> Option<u64>| {
        aligned(thousands(rows.iter().filter_map(|row| of(row)).sum()), true)
    };
    let cells = [
        aligned("…".to_owned(), true),
        cell(&format!("{} more", thousands(rows.len() as u64))),
        sum(|row| row.wpcopy),
        sum(|row| row.kernel_wpcopy),
        cell(""),
        cell(what),
    ];
    Row::from(cells.map(|cell| faint(cell, style)))
}

/// Private_Dirty by process, and the mappings whose pages are not explained.
fn smaps(report: &LedgerReport, processes: &[ProcessVerdict], style: Style) -> String {
    let ([from, to], [first, second]) = (report.at_ms, report.stopped_ms);
    let mut text = format!(
        "\nPrivate_Dirty from {from} to {to} ms after the start (stopped for {first} and {second} ms)\n"
    );
    let mut by_process: BTreeMap<u32, Vec<&ledger::Row>> = BTreeMap::new();
    for row in &report.rows {
        by_process.entry(row.pid).or_default().push(row);
    }
    let mut table = wrapping(style);
    let header = ["pid", "comm / mapping", "kB", "pages", "residual"];
    table.add_row(
        header
            .iter()
            .enumerate()
            .map(|(index, text)| faint(aligned(text.to_string(), !matches!(index, 1 | 3)), style)),
    );
    for (pid, rows) in &by_process {
        let comm = processes.iter().rev().find(|row| row.pid == *pid).map_or("?", |row| &row.comm);
        table.add_row(ledger_row(pid.to_string(), comm, rows, style));
        let unexplained: Vec<_> = rows.iter().filter(|row| row.residual_pages != 0).collect();
        for row in unexplained.iter().take(MAPPINGS) {
            let name = row.region.rsplit('/').next().unwrap_or_default();
            table.add_row(ledger_row(String::new(), &format!("  {name} {}", row.perms), &[row], style));
        }
        if unexplained.len() > MAPPINGS {
            let more = format!("  … {} more mappings", unexplained.len() - MAPPINGS);
            table.add_row(Row::from([cell(""), faint(cell(&more), style)]));
        }
    }
    text.push_str(&rendered(&table));
    text
}

fn ledger_row(pid: String, name: &str, rows: &[&ledger::Row], style: Style) -> Row {
    let kb = [0, 1].map(|side| thousands(rows.iter().map(|row| row.private_dirty_kb[side]).sum()));
    let residual: u64 = rows.iter().map(|row| row.residual_pages.unsigned_abs()).sum();
    let left = aligned(if residual == 0 { "·".to_owned() } else { thousands(residual) }, true);
    Row::from([
        aligned(pid, true),
        cell(name),
        aligned(format!("{} → {}", kb[0], kb[1]), true),
        cell(&moves(rows)),
        if residual == 0 { left } else { colored(left, Verdict::Differs, style) },
    ])
}

/// The last line.
fn outcome(report: &VerifyReport) -> String {
    let totals = &report.totals;
    let compared = format!(
        "{}, {}",
        count(totals.exact + totals.bounded, "process", "processes"),
        count(totals.kernel_wpcopy.max(totals.wpcopy), "copy", "copies")
    );
    let running = match totals.running {
        0 => String::new(),
        some => format!("; {} still running, not compared", thousands(some)),
    };
    match totals.verdict {
        Outcome::Exact => format!("exact: {compared}{running}"),
        Outcome::Differs => format!("{}{running}", differing(report, totals)),
        Outcome::Incomplete => {
            format!(
                "incomplete: {}; {} exact{running}",
                missing(report),
                count(totals.exact, "process", "processes")
            )
        }
        Outcome::Bounded => format!(
            "not contradicted: {compared}{running}; nothing counts copies here, so this is no proof that they are exact"
        ),
    }
}

fn differing(report: &VerifyReport, totals: &Totals) -> String {
    let by_process = format!(
        "{} of {} processes differ",
        thousands(totals.differ + totals.not_traced),
        thousands(totals.processes)
    );
    let others: Vec<String> = report
        .oracles
        .iter()
        .filter(|oracle| oracle.finding == Some(crate::verify::Finding::Differs))
        .filter(|oracle| !matches!(oracle.name.text(), "wpcopy_count" | "minor_faults"))
        .map(|oracle| format!("{} differs", oracle.name.text()))
        .collect();
    if others.is_empty() { by_process } else { format!("{by_process}; {}", others.join("; ")) }
}

/// What could not be compared.
fn missing(report: &VerifyReport) -> String {
    let totals = &report.totals;
    let records = report.oracles.iter().map(|oracle| oracle.lost_records).max().unwrap_or(0);
    let mut causes = Vec::new();
    if records > 0 {
        causes.push(format!("the kernel had no room for {} of its records", thousands(records)));
    }
    if totals.no_record > 0 {
        let who = count(totals.no_record, "process has", "processes have");
        causes.push(format!("{who} no exit record"));
    }
    if report.lost.processes > 0 {
        causes.push(format!(
            "{} found no slot (--max-tasks follows more)",
            count(report.lost.processes, "process or thread", "processes or threads")
        ));
    }
    let unread = |oracle: &&Oracle| oracle.finding == Some(crate::verify::Finding::Incomplete);
    for oracle in report.oracles.iter().filter(unread).filter(|oracle| !oracle.available) {
        causes.push(format!("{} could not be read", oracle.name.text()));
    }
    let unexplained = report.ledger.as_ref().map_or(0, LedgerReport::residual_pages);
    if unexplained > 0 {
        causes.push(format!("smaps has {} without an event", count(unexplained, "page", "pages")));
    }
    if causes.is_empty() {
        causes.push("nothing has ended that could be compared".to_owned());
    }
    causes.join("; ")
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

fn aligned(text: String, right: bool) -> Cell {
    if right { cell(&text).set_alignment(CellAlignment::Right) } else { cell(&text) }
}

fn faint(cell: Cell, style: Style) -> Cell {
    if style.color { cell.fg(Color::DarkGrey) } else { cell }
}

/// Red is for what is not as it should be.
fn colored(cell: Cell, verdict: Verdict, style: Style) -> Cell {
    if !style.color {
        return cell;
    }
    match verdict {
        Verdict::Exact => cell.fg(Color::Green),
        Verdict::Differs | Verdict::NotTraced => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Verdict::Running | Verdict::NoRecord | Verdict::Bounded => cell.fg(Color::Yellow),
    }
}
