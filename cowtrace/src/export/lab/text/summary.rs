//! All experiments in a line each, and the lab in a few sentences.

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement};

use super::{
    super::{
        facts::{Totals, amiss, interruption, pages_moved},
        words::{backend, blind_to, dot, duration, kernel, mark, word},
    },
    Page, cell, rendered, verdict_color, visible,
};
use crate::lab::{LabReport, report::ExperimentReport};

impl Page {
    pub(super) fn summary(&mut self, report: &LabReport) {
        let totals = Totals::new(report);
        if !report.experiments.is_empty() {
            self.summary_table(report, &totals);
        }
        if let Some(text) = interruption(report) {
            self.paragraph(&text, "");
        }
        if report.experiments.is_empty() {
            return;
        }
        let mut text = totals.claims_sentence(report);
        if let Some(sentence) = totals.verdicts_sentence(report) {
            text.push_str(&format!(" {sentence}"));
        }
        self.paragraph("", &format!("{text} {}", totals.ledger_sentence()));
        let (kernel, backend) = (kernel(&report.kernel), backend(&report.backend));
        if !kernel.is_empty() && !backend.is_empty() {
            let blind = blind_to(&report.backend);
            let blind = if blind.is_empty() {
                String::new()
            } else {
                format!(", which does not see {}", blind.join(", nor "))
            };
            self.paragraph("", &format!("{kernel}; {backend} backend{blind}."));
        }
    }

    /// With words above the columns, or, where these are too wide, with the verdicts' signs.
    fn summary_table(&mut self, report: &LabReport, totals: &Totals) {
        let rows = |words: bool, arrangement: ContentArrangement| {
            let mut table = self.table();
            table.set_content_arrangement(arrangement);
            table.add_row(self.summary_header(totals, words));
            for experiment in &report.experiments {
                table.add_row(self.summary_row(experiment, totals));
            }
            // Names are not broken.
            if let Some(first) = table.column_mut(0) {
                first.set_constraint(ColumnConstraint::ContentWidth);
            }
            rendered(&table)
        };
        let whole = rows(true, ContentArrangement::Disabled);
        let fits = whole.lines().all(|line| visible(line) < self.style.width);
        let table = if fits { whole } else { rows(false, ContentArrangement::Dynamic) };
        self.text.push_str(&table);
        self.line("");
    }

    fn summary_header(&self, totals: &Totals, words: bool) -> Vec<Cell> {
        let verdicts = totals.occurring();
        let verdicts = verdicts.iter().map(|verdict| if words { word(*verdict) } else { mark(*verdict) });
        let moved = if words { "pages moved" } else { "pages" };
        let numbers = std::iter::once("claims").chain(verdicts).chain([moved, "residual", "time"]);
        let cells = std::iter::once(cell("experiment")).chain(numbers.map(|text| self.number(text)));
        cells.map(|cell| self.faint(cell)).collect()
    }

    fn summary_row(&self, experiment: &ExperimentReport, totals: &Totals) -> Vec<Cell> {
        let amiss = amiss(experiment) > 0;
        let id = cell(experiment.id);
        let mut row = vec![if amiss { self.colored(id, Color::Red) } else { id }];
        row.push(self.number(&experiment.claims.len().to_string()));
        for verdict in totals.occurring() {
            let count = experiment.count(verdict) as u64;
            let cell = self.number(&dot(count));
            row.push(if count > 0 { self.colored(cell, verdict_color(verdict)) } else { cell });
        }
        row.push(self.number(&dot(pages_moved(experiment))));
        let residual = experiment.residual_pages();
        let left = self.number(&dot(residual));
        row.push(if residual == 0 { left } else { self.colored(left, Color::Red) });
        row.push(self.number(&duration(experiment.duration_ms)));
        row
    }
}
