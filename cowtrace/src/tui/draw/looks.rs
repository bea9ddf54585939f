//! Colours and characters that a terminal can show.

use ratatui::style::{Color, Modifier, Style};

use crate::export::is_printable;

/// What the terminal can show, and is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// Colours; without them there is still bold, faint and reversed.
    pub color: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_BARS: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

impl Looks {
    /// For headings.
    pub(super) fn heading(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.color { style.fg(Color::Cyan) } else { style }
    }

    /// For what matters.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// For what has ended.
    pub(super) fn faint(self) -> Style {
        if self.color { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }

    /// For losses.
    pub(super) fn alarm(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.color { style.fg(Color::Red) } else { style }
    }

    /// For what deserves a look.
    pub(super) fn notice(self) -> Style {
        if self.color { Style::new().fg(Color::Yellow) } else { self.strong() }
    }

    /// For the line that the cursor is on.
    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Stands for 0.
    pub(super) fn nothing(self) -> &'static str {
        if self.unicode { "·" } else { "-" }
    }

    /// From parent to child.
    pub(super) fn arrow(self) -> &'static str {
        if self.unicode { "→" } else { ">" }
    }

    /// Between two bounds.
    pub(super) fn dash(self) -> char {
        if self.unicode { '–' } else { '-' }
    }

    /// Where text was cut.
    pub(super) fn cut(self) -> char {
        if self.unicode { '…' } else { '~' }
    }

    /// A bar as high as this share of the highest one, 0 to 1.
    pub(super) fn bar(self, share: f64) -> char {
        let bars = if self.unicode { BARS } else { ASCII_BARS };
        bars[(share.clamp(0.0, 1.0) * (bars.len() - 1) as f64).round() as usize]
    }

    /// Text from outside, as it can be shown: a name may hold what a terminal would obey.
    pub(super) fn clean(self, text: &str) -> String {
        let shown = |c: char| match c {
            c if !is_printable(c) || (!self.unicode && !c.is_ascii()) => '?',
            c => c,
        };
        text.chars().map(shown).collect()
    }
}
