//! Tables of figures, and curves.

use comfy_table::Cell;

use super::{super::chart::spark, INDENT, Page, cell, rendered};
use crate::lab::report::{Curve, Figures};

impl Page {
    /// Figures that are no claims.
    pub(super) fn figures(&mut self, tables: &[Figures]) {
        for figures in tables {
            self.paragraph("", &format!("{}:", figures.title));
            let mut table = self.table();
            let row = |cells: &[String]| -> Vec<Cell> {
                let cells = cells.iter().enumerate();
                cells.map(|(index, text)| if index == 0 { cell(text) } else { self.number(text) }).collect()
            };
            table.add_row(row(&figures.columns).into_iter().map(|cell| self.faint(cell)));
            for cells in &figures.rows {
                table.add_row(row(cells));
            }
            self.text.push_str(&rendered(&table));
            self.line("");
        }
    }

    /// A line of bars for each curve.
    pub(super) fn curves(&mut self, curves: &[Curve]) {
        for curve in curves {
            let (axes, lines) = spark::lines(curve, self.style.width.saturating_sub(INDENT.len() + 1));
            self.paragraph("", &format!("{}: {axes}", curve.title));
            for line in lines {
                self.line(&format!("{INDENT}{}", line.trim_end()));
            }
            self.line("");
        }
    }
}
