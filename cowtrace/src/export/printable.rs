//! Text from outside, made fit to be shown: names and arguments are what any user of the machine made them.

use std::borrow::Cow;

/// Stands for a character that is not shown.
const REPLACED: char = '\u{fffd}';

/// `text` with a sign in place of each character that a terminal would obey, that would begin a line, that turns the order
/// of what is around it, or that XML forbids.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_printable(c) { c } else { REPLACED }).collect())
}

/// The same for text of several lines, which stay lines.
pub(super) fn printable_lines(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c == '\n' || is_printable(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if c == '\n' || is_printable(c) { c } else { REPLACED }).collect())
}

/// Whether a character only shows itself.
pub fn is_printable(c: char) -> bool {
    let obeyed = matches!(c,
        // Ends of lines and paragraphs; marks, embeddings and isolates of right-to-left text.
        '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // No characters.
        | '\u{fffe}' | '\u{ffff}');
    !obeyed && !c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_only_shown_is_replaced() {
        let all = "a\x1b[31mb\nc\rd\te\x7ff\u{9b}1mg\u{202e}h\u{2028}i\u{ffff}j\0";
        assert_eq!(printable(all), "a�[31mb�c�d�e�f�1mg�h�i�j�");
        assert_eq!(printable(all).chars().count(), all.chars().count(), "columns stay what they were");
    }

    #[test]
    fn other_text_is_left_alone() {
        for text in ["", "Größe → 数 🐮", "'a b'; rm -rf /"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn lines_stay_lines_where_they_are_meant() {
        assert_eq!(printable_lines("a\nb\x1b[m\n"), "a\nb�[m\n");
    }
}
