//! The lab's report for people: what was done, what smaps and the tracer showed, and what that teaches.

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};
use serde_json::Value;

use super::{Style, thousands};
use crate::{
    lab::{
        LabReport,
        claims::{Claim, Verdict},
        report::{CheckpointReport, ExperimentReport, LedgerRow, ProcessReport},
    },
    ledger::Explained,
    proc::Vma,
};

/// Text is never set narrower than this, nor wider than reads well.
const TEXT_WIDTH: std::ops::RangeInclusive<usize> = 24..=96;
const INDENT: &str = "  ";

type SmapsLine = (&'static str, fn(&Vma) -> u64);

/// The lines of an smaps block that this is about.
const SMAPS: [SmapsLine; 8] = [
    ("Size", |vma| vma.size_kb),
    ("Rss", |vma| vma.rss_kb),
    ("Pss", |vma| vma.pss_kb),
    ("Shared_Clean", |vma| vma.shared_clean_kb),
    ("Shared_Dirty", |vma| vma.shared_dirty_kb),
    ("Private_Clean", |vma| vma.private_clean_kb),
    ("Private_Dirty", |vma| vma.private_dirty_kb),
    ("Anonymous", |vma| vma.anonymous_kb),
];

/// Kinds of faults: always shown, or only where they occurred.
const FAULTS: [(&str, &str, bool); 8] = [
    ("anon", "first touches", true),
    ("copy", "copies", true),
    ("zero", "zero page", false),
    ("file", "file copies", false),
    ("ksm", "KSM copies", false),
    ("reuse", "reuses", false),
    ("shared", "shared writes", false),
    ("denied", "denied", false),
];

/// The whole report.
pub fn render(report: &LabReport, style: &Style) -> String {
    let mut page = Page { text: String::new(), style: *style };
    for experiment in &report.experiments {
        page.experiment(experiment);
    }
    page.summary(report);
    page.text
}

struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn experiment(&mut self, experiment: &ExperimentReport) {
        let title = self.painted("1", &format!("{}: {}", experiment.id, experiment.title));
        self.line(&title);
        let source = self.painted("2", &format!("checks {}", experiment.source));
        self.line(&source);
        self.line("");
        self.paragraph("", experiment.about);
        self.paragraph("Expect: ", experiment.expect);
        self.line("");
        self.smaps(experiment);
        self.claims(&experiment.claims);
        self.ledger(experiment);
        self.paragraph("What it shows: ", experiment.lesson);
        self.line("");
    }

    /// smaps of the experiment's mapping and the counts in it, one column for each process and checkpoint.
    fn smaps(&mut self, experiment: &ExperimentReport) {
        let mut seen: Vec<(&CheckpointReport, &ProcessReport, &Vma)> = Vec::new();
        for checkpoint in &experiment.checkpoints {
            for process in &checkpoint.processes {
                if let Some(vma) = &process.smaps {
                    seen.push((checkpoint, process, vma));
                }
            }
        }
        let focus = experiment.focus;
        if seen.is_empty() {
            let mappings =
                experiment.checkpoints.last().and_then(|c| c.processes.first()).map_or(0, |p| p.mappings);
            let text = format!("smaps lists {mappings} mappings, and none of them is {focus}.");
            self.paragraph("", &text);
            self.line("");
            return;
        }
        let text =
            format!("{focus} in smaps (kB), and what the tracer counted in it since the checkpoint before:");
        self.paragraph("", &text);
        // By role: a child's number may be the smaller one.
        let order: Vec<u32> =
            experiment.checkpoints.iter().flat_map(|c| &c.processes).map(|process| process.pid).collect();
        seen.sort_by_key(|(_, process, _)| order.iter().position(|&pid| pid == process.pid));
        let whole = self.smaps_table(&seen, ContentArrangement::Disabled);
        if whole.lines().all(|line| line.chars().count() < self.style.width) {
            let whole = self.smaps_table(&seen, ContentArrangement::Dynamic);
            self.text.push_str(&whole);
        } else {
            for part in seen.chunk_by(|a, b| a.1.pid == b.1.pid) {
                let table = self.smaps_table(part, ContentArrangement::Dynamic);
                self.text.push_str(&table);
            }
        }
        self.line("");
    }

    fn smaps_table(
        &self,
        columns: &[(&CheckpointReport, &ProcessReport, &Vma)],
        arrangement: ContentArrangement,
    ) -> String {
        let mut table = self.table();
        table.set_content_arrangement(arrangement);
        let mut who = vec![Cell::new("")];
        let mut when = vec![Cell::new("")];
        for (checkpoint, process, _) in columns {
            who.push(self.number(&format!("{} {}", process.role, process.pid)));
            when.push(self.faint(self.number(&checkpoint.name)));
        }
        table.add_row(who).add_row(when);
        for (name, value) in SMAPS {
            let mut row = vec![Cell::new(name)];
            row.extend(columns.iter().map(|(_, _, vma)| self.number(&thousands(value(vma)))));
            table.add_row(row);
        }
        for (kind, name, always) in FAULTS {
            let counts = columns.iter().map(|(_, process, _)| process.faults.get(kind).copied().unwrap_or(0));
            if always || counts.clone().any(|count| count > 0) {
                let mut row = vec![self.strong(Cell::new(name))];
                row.extend(counts.map(|count| self.strong(self.number(&dot(count)))));
                table.add_row(row);
            }
        }
        rendered(&table)
    }

    fn claims(&mut self, claims: &[Claim]) {
        if claims.is_empty() {
            return;
        }
        let mut table = self.table();
        let header = ["", "claim", "expected", "measured", ""];
        table.add_row(header.iter().enumerate().map(|(index, text)| {
            let right = index == 2 || index == 3;
            self.faint(if right { self.number(text) } else { Cell::new(text) })
        }));
        for claim in claims {
            let (mark, color) = mark(claim.verdict);
            table.add_row(Row::from([
                self.colored(Cell::new(mark), color),
                Cell::new(&claim.claim),
                self.number(&figure(&claim.expected)),
                self.number(&figure(&claim.measured)),
                Cell::new(claim.unit),
            ]));
        }
        self.text.push_str(&rendered(&table));
        for claim in claims.iter().filter(|claim| claim.verdict != Verdict::Holds) {
            let (mark, word) = (mark(claim.verdict).0, word(claim.verdict));
            self.paragraph(&format!("{mark} {}: {word}: ", claim.claim), &claim.why);
        }
        self.line("");
    }

    /// Only what moved; the rest in one sentence.
    fn ledger(&mut self, experiment: &ExperimentReport) {
        let moved = |row: &&LedgerRow| {
            let kb = row.row.private_dirty_kb;
            kb[0] != kb[1] || !row.row.explained_pages.is_empty() || row.row.residual_pages != 0
        };
        let rows: Vec<&LedgerRow> = experiment.ledger.iter().filter(moved).collect();
        let still = experiment.ledger.len() - rows.len();
        if rows.is_empty() {
            self.paragraph(
                "",
                &format!("Private_Dirty did not move in any mapping that has some ({still})."),
            );
            self.line("");
            return;
        }
        self.paragraph("", "Private_Dirty (kB), and the pages by which it moved, explained by events:");
        for step in rows.chunk_by(|a, b| a.between == b.between) {
            self.step(experiment, step);
        }
        if still > 0 {
            let (noun, verb) = if still == 1 { ("mapping", "has") } else { ("mappings", "have") };
            self.paragraph("", &format!("{still} more {noun} {verb} some, and did not move."));
        }
        self.line("");
    }

    /// The ledger from one checkpoint to the next.
    fn step(&mut self, experiment: &ExperimentReport, rows: &[&LedgerRow]) {
        let mut table = self.table();
        let [from, to] = &rows[0].between;
        let title = self.painted("1", &format!("{from} → {to}"));
        self.line(&format!("{INDENT}{title}"));
        let header = ["process", "mapping", "kB", "pages", "residual"];
        table.add_row(
            header.iter().enumerate().map(|(index, text)| {
                self.faint(if index == 2 { self.number(text) } else { Cell::new(text) })
            }),
        );
        for row in rows.iter().map(|entry| &entry.row) {
            let left = self.number(&dot(row.residual_pages.unsigned_abs()));
            table.add_row(Row::from([
                Cell::new(role(experiment, row.pid)),
                Cell::new(mapping(&row.region, &row.perms)),
                self.number(&format!("{} → {}", row.private_dirty_kb[0], row.private_dirty_kb[1])),
                Cell::new(moves(&row.explained_pages)),
                if row.residual_pages == 0 { left } else { self.colored(left, Color::Red) },
            ]));
        }
        self.text.push_str(&rendered(&table));
    }

    fn summary(&mut self, report: &LabReport) {
        let verdicts: Vec<Verdict> =
            [Verdict::Holds, Verdict::Refuted, Verdict::Differs, Verdict::Unmeasurable]
                .into_iter()
                .filter(|verdict| {
                    *verdict == Verdict::Holds || report.experiments.iter().any(|e| e.count(*verdict) > 0)
                })
                .collect();
        let mut table = self.table();
        let mut header = vec![Cell::new("experiment"), self.number("claims")];
        header.extend(verdicts.iter().map(|verdict| self.number(word(*verdict))));
        header.extend(["pages moved", "residual"].map(|text| self.number(text)));
        table.add_row(header.into_iter().map(|cell| self.faint(cell)));
        for experiment in &report.experiments {
            let residual = experiment.residual_pages();
            let left = self.number(&dot(residual));
            let mut row = vec![Cell::new(experiment.id), self.number(&experiment.claims.len().to_string())];
            for &verdict in &verdicts {
                let count = experiment.count(verdict) as u64;
                let cell = self.number(&dot(count));
                row.push(if count > 0 { self.colored(cell, mark(verdict).1) } else { cell });
            }
            row.push(self.number(&dot(pages_moved(experiment))));
            row.push(if residual == 0 { left } else { self.colored(left, Color::Red) });
            table.add_row(row);
        }
        self.text.push_str(&rendered(&table));
        let all = |count: fn(&ExperimentReport) -> u64| report.experiments.iter().map(count).sum::<u64>();
        let (claims, held) = (all(|e| e.claims.len() as u64), all(|e| e.count(Verdict::Holds) as u64));
        let (moved, residual) = (all(pages_moved), all(ExperimentReport::residual_pages));
        let experiments = report.experiments.len();
        let noun = if experiments == 1 { "experiment" } else { "experiments" };
        let ledger = match residual {
            0 => format!("All {} pages by which Private_Dirty moved are explained.", thousands(moved)),
            1 => "1 page of Private_Dirty stays unexplained: the counts are not right.".to_owned(),
            _ => format!(
                "{} pages of Private_Dirty stay unexplained: the counts are not right.",
                thousands(residual)
            ),
        };
        self.line("");
        self.paragraph("", &format!("{experiments} {noun}, {claims} claims, of which {held} hold. {ledger}"));
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn paragraph(&mut self, label: &str, text: &str) {
        let (least, most) = TEXT_WIDTH.into_inner();
        let width = self.style.width.saturating_sub(INDENT.len()).clamp(least, most);
        for (index, line) in wrapped(&format!("{label}{text}"), width).iter().enumerate() {
            let line = match line.strip_prefix(label) {
                Some(rest) if index == 0 && !label.is_empty() => {
                    format!("{}{rest}", self.painted("1", label))
                }
                _ => line.clone(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "{INDENT}{line}");
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.style.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(self.style.width.saturating_sub(1)).unwrap_or(u16::MAX));
        if self.style.color {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        table
    }

    fn number(&self, text: &str) -> Cell {
        Cell::new(text).set_alignment(CellAlignment::Right)
    }

    fn faint(&self, cell: Cell) -> Cell {
        self.colored(cell, Color::DarkGrey)
    }

    fn strong(&self, cell: Cell) -> Cell {
        if self.style.color { cell.add_attribute(Attribute::Bold) } else { cell }
    }

    fn colored(&self, cell: Cell, color: Color) -> Cell {
        if self.style.color { cell.fg(color) } else { cell }
    }
}

fn rendered(table: &Table) -> String {
    table.lines().map(|line| format!(" {}\n", line.trim_end())).collect()
}

fn mark(verdict: Verdict) -> (&'static str, Color) {
    match verdict {
        Verdict::Holds => ("✓", Color::Green),
        Verdict::Refuted => ("✗", Color::Red),
        Verdict::Differs => ("≠", Color::Yellow),
        Verdict::Unmeasurable => ("?", Color::Yellow),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Refuted => "refuted",
        Verdict::Differs => "differs",
        Verdict::Unmeasurable => "unmeasurable",
    }
}

fn figure(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), thousands),
        other => other.to_string(),
    }
}

fn dot(count: u64) -> String {
    if count == 0 { "·".into() } else { thousands(count) }
}

fn role(experiment: &ExperimentReport, pid: u32) -> String {
    let known = experiment.checkpoints.iter().flat_map(|c| &c.processes).find(|process| process.pid == pid);
    known.map_or_else(|| pid.to_string(), |process| process.role.to_owned())
}

/// A mapping in few columns: a file without its folders.
fn mapping(region: &str, perms: &str) -> String {
    let short = if region.starts_with('/') { region.rsplit('/').next().unwrap_or(region) } else { region };
    if region.starts_with('/') { format!("{short} {perms}") } else { short.to_owned() }
}

/// `+17 copied, -3 given up`.
fn moves(explained: &Explained) -> String {
    let parts = [
        (explained.copy, "copied"),
        (explained.zero, "zero page"),
        (explained.anon, "first touch"),
        (explained.file, "file copied"),
        (explained.ksm, "KSM copied"),
        (explained.unshared_by_others, "left by others"),
        (explained.given_up, "given up"),
        (explained.unmapped, "unmapped"),
        (explained.page_cache, "page cache"),
    ];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(pages, _)| *pages != 0)
        .map(|(pages, name)| format!("{pages:+} {name}"))
        .collect();
    if shown.is_empty() { "·".into() } else { shown.join(", ") }
}

/// Pages by which `Private_Dirty` moved, up or down.
fn pages_moved(experiment: &ExperimentReport) -> u64 {
    let moved = |row: &LedgerRow| (row.row.residual_pages + row.row.explained_pages.total()).unsigned_abs();
    experiment.ledger.iter().map(moved).sum()
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if used > 0 && used + length > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
        used += word.chars().count();
    }
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    lines
}

#[cfg(test)]
#[path = "lab_human_tests.rs"]
mod tests;
