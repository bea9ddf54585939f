//! The ledger, as far as a reader follows it.

use comfy_table::{Color, Row};

use super::{
    super::{
        super::thousands,
        facts::{Step, did_not_move, foremost, role, steps, sum},
        words::{dot, mapping, moves},
    },
    INDENT, Page, cell, rendered,
};
use crate::{lab::report::ExperimentReport, ledger};

/// Lines of a step at most.
const ROWS: usize = 12;

impl Page {
    /// Only what moved; the rest in one sentence.
    pub(super) fn ledger(&mut self, experiment: &ExperimentReport) {
        let (steps, still) = steps(experiment);
        if !steps.is_empty() {
            self.paragraph("", "Private_Dirty (kB), and the pages by which it moved, explained by events:");
        }
        for step in &steps {
            self.step(experiment, step);
        }
        if let Some(text) = did_not_move(steps.len(), still) {
            self.paragraph("", &text);
        }
        self.line("");
    }

    /// The ledger from one checkpoint to the next.
    fn step(&mut self, experiment: &ExperimentReport, step: &Step<'_>) {
        let mut table = self.table();
        let title = self.painted("1", &format!("{} → {}", step.from, step.to));
        self.line(&format!("{INDENT}{title}"));
        let header = ["process", "mapping", "kB", "pages", "residual"];
        table.add_row(
            header
                .iter()
                .enumerate()
                .map(|(index, text)| self.faint(if index == 2 { self.number(text) } else { cell(text) })),
        );
        let (shown, rest) = foremost(&step.rows, ROWS);
        for row in shown {
            let name = mapping(&row.region, &row.perms);
            table.add_row(self.ledger_row(&role(experiment, row.pid), &name, &[row]));
        }
        if !rest.is_empty() {
            table.add_row(self.ledger_row("", &format!("{} other mappings", rest.len()), &rest));
        }
        self.text.push_str(&rendered(&table));
    }

    fn ledger_row(&self, role: &str, name: &str, rows: &[&ledger::Row]) -> Row {
        let ([before, after], residual) = sum(rows);
        let left = self.number(&dot(residual));
        Row::from([
            cell(role),
            cell(name),
            self.number(&format!("{} → {}", thousands(before), thousands(after))),
            cell(&moves(rows)),
            if residual == 0 { left } else { self.colored(left, Color::Red) },
        ])
    }
}
