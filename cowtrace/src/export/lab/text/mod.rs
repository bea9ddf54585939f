//! The lab's report as text.

mod figures;
mod ledger;
mod smaps;
mod summary;

use comfy_table::{Color, Row};

use super::{
    super::{
        Style,
        page::{INDENT, Page, TEXT_WIDTH, visible, wrapped},
        table::{cell, rendered},
    },
    facts::to_explain,
    words::{figure, mark, source, word},
};
use crate::lab::{
    LabReport,
    claims::{Claim, Verdict},
    report::ExperimentReport,
};

/// The whole report.
pub fn text(report: &LabReport, style: &Style) -> String {
    let mut page = Page::new(*style);
    for experiment in &report.experiments {
        page.experiment(experiment);
    }
    page.summary(report);
    page.text
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
            self.faint(if right { self.number(text) } else { cell(text) })
        }));
        for claim in claims {
            table.add_row(Row::from([
                self.colored(cell(mark(claim.verdict)), color(claim)),
                cell(&claim.claim),
                self.number(&figure(&claim.expected)),
                self.number(&figure(&claim.measured)),
                cell(claim.unit),
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
