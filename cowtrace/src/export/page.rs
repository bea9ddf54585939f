//! Text for a terminal: paragraphs and tables that fit its width.

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};

use super::{
    Style, printable,
    table::{cell, wrapping},
};

/// Text is never set narrower than this, nor wider than reads well.
pub(super) const TEXT_WIDTH: std::ops::RangeInclusive<usize> = 24..=96;
/// Columns before text.
pub(super) const INDENT: &str = "  ";

/// A text in the making.
pub(super) struct Page {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Page {
    pub(super) fn new(style: Style) -> Page {
        Page { text: String::new(), style }
    }

    pub(super) fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// Columns for text behind the indent.
    pub(super) fn text_width(&self) -> usize {
        let (least, most) = TEXT_WIDTH.into_inner();
        self.style.width.saturating_sub(INDENT.len()).clamp(least, most)
    }

    pub(super) fn paragraph(&mut self, label: &str, text: &str) {
        let mut left = label.trim_end().chars().count();
        for line in wrapped(&printable(&format!("{label}{text}")), self.text_width()) {
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

    pub(super) fn painted(&self, code: &str, text: &str) -> String {
        let text = printable(text);
        if self.style.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into_owned() }
    }

    pub(super) fn table(&self) -> Table {
        wrapping(self.style)
    }

    pub(super) fn number(&self, text: &str) -> Cell {
        cell(text).set_alignment(CellAlignment::Right)
    }

    pub(super) fn faint(&self, cell: Cell) -> Cell {
        self.colored(cell, Color::DarkGrey)
    }

    pub(super) fn strong(&self, cell: Cell) -> Cell {
        if self.style.color { cell.add_attribute(Attribute::Bold) } else { cell }
    }

    pub(super) fn colored(&self, cell: Cell, color: Color) -> Cell {
        if self.style.color { cell.fg(color) } else { cell }
    }
}

/// Columns that a line takes on a terminal: without its colours.
pub(super) fn visible(line: &str) -> usize {
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

pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
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
