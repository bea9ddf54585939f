//! Keys, from the bytes that a terminal sends for them.
//!
//! Not by crossterm: when the terminal has gone, its reader takes the end of the file for an interruption, and tries for ever.

use super::model::Key;

const ESCAPE: u8 = 0x1b;

/// The keys that these bytes are; what is no key of ours is left out.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            ESCAPE if matches!(after.first(), Some(b'[' | b'O')) => {
                let parameters = &after[1..];
                let end = parameters.iter().position(|byte| (0x40..0x7f).contains(byte));
                let (sequence, after) = parameters.split_at(end.map_or(parameters.len(), |end| end + 1));
                rest = after;
                keys.extend(sequence.split_last().and_then(|(&last, number)| named(last, number)));
            }
            ESCAPE => keys.push(Key::Escape),
            b'\r' | b'\n' => keys.push(Key::Enter),
            0x08 | 0x7f => keys.push(Key::Backspace),
            0x01..=0x1a => keys.push(Key::Ctrl((first - 1 + b'a').into())),
            0x00..0x20 => {}
            _ => {
                let end = after.iter().position(|&byte| !(0x80..0xc0).contains(&byte));
                let (more, after) = after.split_at(end.unwrap_or(after.len()).min(3));
                rest = after;
                let letter = [&[first], more].concat();
                keys.extend(str::from_utf8(&letter).ok().and_then(|text| text.chars().next()).map(Key::Char));
            }
        }
    }
    keys
}

/// Whether a key has come only in part, so that the rest is to be waited for.
pub(super) fn is_partial(bytes: &[u8]) -> bool {
    let Some(start) = bytes.iter().rposition(|&byte| byte == ESCAPE) else { return false };
    match &bytes[start + 1..] {
        [] => true,
        [b'[' | b'O', parameters @ ..] => !parameters.iter().any(|byte| (0x40..0x7f).contains(byte)),
        _ => false,
    }
}

/// A key by the last byte of its sequence, or by the number before that; modifiers do not matter.
fn named(last: u8, parameters: &[u8]) -> Option<Key> {
    Some(match (last, parameters.split(|&byte| byte == b';').next().unwrap_or_default()) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"3") => Key::Backspace,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        (b'M', _) => Key::Enter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_bytes() {
        let cases: [(&[u8], &[Key]); 9] = [
            (b"q", &[Key::Char('q')]),
            (b"\x1b", &[Key::Escape]),
            (b"\x1bq", &[Key::Escape, Key::Char('q')]),
            (b"\x1b[A\x1bOB\x1b[1;5C", &[Key::Up, Key::Down, Key::Right]),
            (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", &[Key::PageUp, Key::PageDown, Key::Home, Key::End]),
            (b"\r\x7f\x03\x1a", &[Key::Enter, Key::Backspace, Key::Ctrl('c'), Key::Ctrl('z')]),
            ("é/€".as_bytes(), &[Key::Char('é'), Key::Char('/'), Key::Char('€')]),
            (b"\x1b[200~x", &[Key::Char('x')]),
            (b"\x00\xff\x80\x1b[", &[]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_sequence_that_is_cut_is_waited_for() {
        let partial = [&b"\x1b"[..], b"\x1b[", b"j\x1b[1;5"].map(is_partial);
        let whole = [&b"\x1b[A"[..], b"\x1bq", b"j", b""].map(is_partial);
        assert_eq!((partial, whole), ([true; 3], [false; 4]));
    }
}
