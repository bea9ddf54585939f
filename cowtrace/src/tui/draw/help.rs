//! What keys do, and what columns mean.

use ratatui::text::{Line, Span};

use super::Looks;

const KEYS: [(&str, &str); 12] = [
    ("q, Esc, Ctrl-C", "end; Esc first leaves what was opened"),
    ("up, down, k, j", "move; the cursor stays with its process"),
    ("PgUp, PgDn, G", "move by screens, to the end"),
    ("Home, g", "back to the first, whoever that is"),
    ("Enter", "open a process: regions, kinds, forks"),
    ("s, >, <", "sort by the next column, the one before"),
    ("r", "reverse the order"),
    ("/", "filter by id, name or arguments; Esc clears"),
    ("f", "forks alone"),
    ("p, Space", "pause; counting goes on"),
    ("Ctrl-L", "draw everything again"),
    ("Ctrl-Z", "stop; `fg` comes back"),
];

const WORDS: [(&str, &str); 7] = [
    ("COPIES", "pages copied because of a fork"),
    ("COPIED", "bytes copied, those of private files too"),
    ("FILE", "private file pages copied, not in COPIES"),
    ("REGION", "the mapping with the most copies"),
    ("EXTRA", "memory that a fork costs: what both sides copied"),
    ("EXPECTED", "what that will be when it ends (--forecast)"),
    ("OVER TIME", "copies per second since the fork"),
];

/// All lines.
pub(super) fn lines(looks: Looks) -> Vec<Line<'static>> {
    let entry = |(name, meaning): (&str, &str)| {
        Line::from(vec![
            Span::styled(format!("{name:<15}"), looks.strong()),
            Span::raw(format!(" {meaning}")),
        ])
    };
    let keys = KEYS.into_iter().map(entry);
    keys.chain([Line::default()]).chain(WORDS.into_iter().map(entry)).collect()
}
