//! Columns that fit into a width: the least important go first.

use ratatui::text::{Line, Span};

use super::Looks;

/// One column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// The title where there is no room for the other one.
    pub(super) short: &'static str,
    /// Characters that it takes, and that it can do with.
    pub(super) width: usize,
    pub(super) least: usize,
    /// When it goes: the highest first, 0 never.
    pub(super) rank: u8,
    /// Text, which starts at the left.
    pub(super) text: bool,
}

/// Columns, in their order, with the width that each has; the last one takes what is left.
pub(super) struct Fitted<'a> {
    columns: Vec<(usize, &'a Column, usize)>,
    looks: Looks,
    width: usize,
}

impl<'a> Fitted<'a> {
    /// Those of the columns that fit.
    pub(super) fn new(columns: &'a [Column], width: usize, looks: Looks) -> Fitted<'a> {
        let mut shown: Vec<(usize, &Column, usize)> =
            columns.iter().enumerate().map(|(place, column)| (place, column, column.width)).collect();
        let taken = |shown: &[(usize, &Column, usize)]| {
            shown.iter().map(|(_, _, width)| width).sum::<usize>() + shown.len().saturating_sub(1)
        };
        while taken(&shown) > width {
            let least = shown.iter().enumerate().max_by_key(|(_, (_, column, _))| column.rank);
            match least {
                Some((place, (_, column, _))) if column.rank > 0 => _ = shown.remove(place),
                _ => break,
            }
        }
        for place in 0..shown.len() {
            let excess = taken(&shown).saturating_sub(width);
            let (_, column, width) = &mut shown[place];
            *width -= excess.min(*width - column.least);
        }
        let room = width.saturating_sub(taken(&shown));
        if let Some((_, column, width)) = shown.last_mut()
            && column.text
        {
            *width += room;
        }
        Fitted { columns: shown, looks, width }
    }

    /// The width of a column, by its place among all; `None` if it is not shown.
    #[cfg(test)]
    pub(super) fn width_of(&self, place: usize) -> Option<usize> {
        self.columns.iter().find(|(shown, _, _)| *shown == place).map(|(_, _, width)| *width)
    }

    /// Their titles; `marked` is the place of the one that the rows are sorted by.
    pub(super) fn titles(&self, marked: Option<usize>) -> Line<'static> {
        let mut spans = Vec::new();
        for (place, column, width) in &self.columns {
            let title = if column.title.len() > *width { column.short } else { column.title };
            let mut style = self.looks.heading();
            if marked == Some(*place) {
                style = style.patch(self.looks.selected());
            }
            let (text, rest) = padding(title, *width, self.looks);
            // Only the words are marked, not the room around them.
            let blanks = Span::raw(" ".repeat(rest));
            let title = Span::styled(text, style);
            spans.extend(if column.text { [title, blanks] } else { [blanks, title] });
            spans.push(Span::raw(" "));
        }
        Line::from(spans)
    }

    /// A line of cells, as wide as the screen.
    pub(super) fn line(&self, cell: impl Fn(usize, usize) -> String) -> Line<'static> {
        let mut line = String::new();
        for (index, (place, column, width)) in self.columns.iter().enumerate() {
            if index > 0 {
                line.push(' ');
            }
            let (text, rest) = padding(&cell(*place, *width), *width, self.looks);
            let blanks = " ".repeat(rest);
            let (before, after) = if column.text { ("", blanks.as_str()) } else { (blanks.as_str(), "") };
            line.extend([before, &text, after]);
        }
        let missing = self.width.saturating_sub(columns_of(&line));
        line.push_str(&" ".repeat(missing));
        Line::from(line)
    }
}

/// Columns of a terminal that a text takes.
pub(super) fn columns_of(text: &str) -> usize {
    Span::raw(text).width()
}

/// The text, cut to a width, and how much of that it leaves.
fn padding(text: &str, width: usize, looks: Looks) -> (String, usize) {
    let text = cut(text, width, looks);
    let rest = width.saturating_sub(columns_of(&text));
    (text, rest)
}

/// The beginning of a text.
pub(super) fn cut(text: &str, width: usize, looks: Looks) -> String {
    if columns_of(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = 1;
    for letter in text.chars() {
        taken += columns_of(letter.encode_utf8(&mut [0; 4]));
        if taken > width {
            break;
        }
        kept.push(letter);
    }
    if width > 0 {
        kept.push(looks.cut());
    }
    kept
}

/// The end of a text: that of a path says more than its beginning.
pub(super) fn tail(text: &str, width: usize, looks: Looks) -> String {
    if columns_of(text) <= width {
        return text.to_owned();
    }
    let backwards: String = text.chars().rev().collect();
    cut(&backwards, width, looks).chars().rev().collect()
}

/// As many pieces of text as fit into one line, two blanks apart; those of the highest rank go first.
pub(super) fn pieces(mut pieces: Vec<(Span<'static>, u8)>, width: usize) -> Line<'static> {
    let taken = |pieces: &[(Span, u8)]| {
        pieces.iter().map(|(span, _)| span.width()).sum::<usize>() + 2 * pieces.len().saturating_sub(1)
    };
    while pieces.len() > 1 && taken(&pieces) > width {
        let last = pieces.iter().enumerate().max_by_key(|(_, (_, rank))| *rank).map(|(place, _)| place);
        pieces.remove(last.unwrap_or(0));
    }
    let mut spans = Vec::new();
    for (span, _) in pieces {
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        spans.push(span);
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKS: Looks = Looks { color: false, unicode: true };

    fn column(title: &'static str, width: usize, least: usize, rank: u8) -> Column {
        Column { title, short: title, width, least, rank, text: title == "name" }
    }

    #[test]
    fn columns_go_by_their_rank_and_then_shrink() {
        let columns =
            [column("id", 5, 5, 0), column("x", 6, 6, 1), column("y", 6, 6, 2), column("name", 8, 2, 0)];
        let shown = |width: usize| {
            let fitted = Fitted::new(&columns, width, LOOKS);
            [0, 1, 2, 3].map(|place| fitted.width_of(place).unwrap_or(0))
        };
        assert_eq!(shown(40), [5, 6, 6, 20]);
        assert_eq!(shown(27), [5, 6, 0, 14]);
        assert_eq!(shown(20), [5, 0, 0, 14]);
        assert_eq!(shown(10), [5, 0, 0, 4]);
        assert_eq!(shown(3), [5, 0, 0, 2]);
    }

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!((cut("日本語", 6, LOOKS), cut("日本語", 5, LOOKS)), ("日本語".into(), "日本…".into()));
        assert_eq!(tail("/usr/lib/libc.so", 8, LOOKS), "…libc.so");
        assert_eq!(cut("abc", 0, LOOKS), "");
    }
}
