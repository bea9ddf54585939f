//! Numbers, words and tables as people like to read them.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Row, Table, presets};

use super::{Style, printable};

/// 1234567 as `1,234,567`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest binary unit that leaves at least 1.
pub fn bytes(value: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", value as f64 / *size as f64),
        None => format!("{value} B"),
    }
}

/// A duration in the unit that suits it.
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar as high as this share of the highest one, 0 to 1.
pub(super) fn bar(share: f64) -> char {
    BARS[(share.clamp(0.0, 1.0) * (BARS.len() - 1) as f64).round() as usize]
}

/// A command as a user would type it, but for what cannot be shown.
pub fn quote(words: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%^…".contains(c);
    let quoted = words.iter().map(|word| match word.chars().all(plain) && !word.is_empty() {
        true => word.clone(),
        false => format!("'{}'", printable(&word.replace('\'', r"'\''"))),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// `text`, at most `width` characters long.
pub fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The end of a path says more than its beginning.
pub(super) fn tail(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    std::iter::once('…').chain(name.chars().skip(length - width.saturating_sub(1))).collect()
}

/// The first of the tables that fits into this width, or the last one: each has fewer columns than the one before.
pub(super) fn fitting(tables: impl Iterator<Item = String>, width: usize) -> String {
    let mut last = String::new();
    for table in tables {
        last = table;
        if last.lines().all(|line| visible_width(line) <= width) {
            break;
        }
    }
    last
}

/// Characters of a line that take room, without those of colour codes.
fn visible_width(line: &str) -> usize {
    let mut parts = line.split('\x1b');
    let first = parts.next().map_or(0, |text| text.chars().count());
    first + parts.map(|part| part.split_once('m').map_or(0, |(_, text)| text.chars().count())).sum::<usize>()
}

/// A table without lines, whose widest columns are wrapped to fit.
pub(super) fn wrapping(style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(style.width.saturating_sub(1)).unwrap_or(u16::MAX));
    if style.color {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    table
}

/// A cell of a table. Its text may be a name from outside, and is made fit to be shown.
#[expect(clippy::disallowed_methods, reason = "all others go through here")]
pub(super) fn cell(text: &str) -> Cell {
    Cell::new(printable(text))
}

/// Its lines, without trailing blanks.
pub(super) fn rendered(table: &Table) -> String {
    table.lines().map(|line| format!(" {}\n", line.trim_end())).collect()
}

/// What a cell says beyond its text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Faint,
    Strong,
}

/// A table without lines, whose first column is text and whose others are numbers.
pub(super) struct Columns {
    table: Table,
    style: Style,
}

impl Columns {
    pub(super) fn new(style: Style, header: &[&str]) -> Columns {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if style.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let mut columns = Columns { table, style };
        let cells = header.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        columns.row(&cells, Tone::Faint);
        columns
    }

    pub(super) fn row(&mut self, cells: &[String], tone: Tone) {
        let mut row = Row::new();
        for (index, text) in cells.iter().enumerate() {
            let mut cell = cell(text);
            if index > 0 {
                cell = cell.set_alignment(CellAlignment::Right);
            }
            if self.style.color {
                cell = match tone {
                    Tone::Plain => cell,
                    Tone::Faint => cell.fg(Color::DarkGrey),
                    Tone::Strong => cell.add_attribute(comfy_table::Attribute::Bold),
                };
            }
            row.add_cell(cell);
        }
        self.table.add_row(row);
    }

    /// The lines, without trailing blanks.
    pub(super) fn render(&self) -> String {
        self.table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1000, 1_234_567].map(thousands).each_ref().map(|s| s.as_str())
        );
        assert_eq!(
            (bytes(0), bytes(1023), bytes(20_500_480)),
            ("0 B".into(), "1023 B".into(), "19.6 MiB".into())
        );
        assert_eq!(
            (duration(900), duration(1_500_000), duration(2_000_000_000)),
            ("1 µs".into(), "1.5 ms".into(), "2.00 s".into())
        );
    }

    #[test]
    fn the_widest_table_that_fits_is_taken() {
        let tables = || ["first\nlonger", "wide\n\x1b[1mwide\x1b[0m", "w"].map(str::to_owned).into_iter();
        assert_eq!(fitting(tables(), 80), "first\nlonger");
        assert_eq!(fitting(tables(), 4), "wide\n\x1b[1mwide\x1b[0m", "colours take no room");
        assert_eq!(fitting(tables(), 0), "w");
    }

    #[test]
    fn commands_can_be_pasted() {
        let words = ["sh", "-c", "echo 'a b'", ""].map(str::to_owned);
        assert_eq!(quote(&words), r"sh -c 'echo '\''a b'\''' ''");
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!((shorten("äöü", 3), shorten("äöüß", 3)), ("äöü".to_owned(), "äö…".to_owned()));
    }
}
