//! The lab's report as text.

mod figures;
mod ledger;
mod smaps;
mod summary;

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Row, Table};

use super::{
    super::{
        Style,
        table::{rendered, wrapping},
    },
    facts::to_explain,
    words::{figure, mark, source, word},
};
use crate::lab::{
    LabReport,
    claims::{Claim, Verdict},
    report::ExperimentReport,
};

/// Text is never set narrower than this, nor wider than reads well.
const TEXT_WIDTH: std::ops::RangeInclusive<usize> = 24..=96;
const INDENT: &str = "  ";

/// The whole report.
pub fn text(report: &LabReport, style: &Style) -> String {
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
        let (id, title) = (experiment.id, experiment.title);
        for line in wrapped(&format!("{id}: {title}"), self.style.width.max(*TEXT_WIDTH.start())) {
            let line = self.painted("1", &line);
            self.line(&line);
        }
        let source = self.painted("2", &source(experiment.source));
        self.line(&source);
        self.line("");
        self.paragraph("", experiment.about);
        self.paragraph("Expect: ", experiment.expect);
        self.line("");
        self.smaps(experiment);
        self.page_maps(experiment);
        self.figures(&experiment.tables);
        self.curves(&experiment.curves);
        self.claims(&experiment.claims);
        self.ledger(experiment);
        self.paragraph("What it shows: ", experiment.lesson);
        self.line("");
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
            table.add_row(Row::from([
                self.colored(Cell::new(mark(claim.verdict)), color(claim)),
                Cell::new(&claim.claim),
                self.number(&figure(&claim.expected)),
                self.number(&figure(&claim.measured)),
                Cell::new(claim.unit),
            ]));
        }
        self.text.push_str(&rendered(&table));
        if to_explain(claims).next().is_some() {
            self.line("");
        }
        for claim in to_explain(claims) {
            let (mark, word) = (mark(claim.verdict), word(claim.verdict));
            let amiss = if claim.as_it_should() { "" } else { ", which is not as it should be" };
            self.paragraph(&format!("{mark} {}: {word}{amiss}: ", claim.claim), &claim.why);
        }
        self.line("");
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// Columns for text behind the indent.
    fn text_width(&self) -> usize {
        let (least, most) = TEXT_WIDTH.into_inner();
        self.style.width.saturating_sub(INDENT.len()).clamp(least, most)
    }

    fn paragraph(&mut self, label: &str, text: &str) {
        let mut left = label.trim_end().chars().count();
        for line in wrapped(&format!("{label}{text}"), self.text_width()) {
            // The label may take more than one line.
            let length = left.min(line.chars().count());
            let split = line.char_indices().nth(length).map_or(line.len(), |(at, _)| at);
            left -= length;
            // The blank at which the label was broken.
            left = left.saturating_sub(usize::from(left > 0));
            let (label, rest) = line.split_at(split);
            let label = if label.is_empty() { String::new() } else { self.painted("1", label) };
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "{INDENT}{label}{rest}");
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.style.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn table(&self) -> Table {
        wrapping(self.style)
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

/// Columns that a line takes on a terminal: without its colours.
fn visible(line: &str) -> usize {
    let mut columns = 0;
    let mut escape = false;
    for letter in line.chars() {
        match (escape, letter) {
            (false, '\x1b') => escape = true,
            (false, _) => columns += 1,
            (true, _) => escape = letter != 'm',
        }
    }
    columns
}

/// Red is for what is not as it should be.
fn color(claim: &Claim) -> Color {
    if claim.as_it_should() { verdict_color(claim.verdict) } else { Color::Red }
}

fn verdict_color(verdict: Verdict) -> Color {
    match verdict {
        Verdict::Holds => Color::Green,
        Verdict::Refuted => Color::Magenta,
        Verdict::Differs | Verdict::Unmeasurable => Color::Yellow,
    }
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
