//! Messages of the tracer: on standard error, or kept while a terminal view would be spoilt by them.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

/// Messages that are kept at most; later ones are counted.
const KEPT: usize = 100;

static HELD: Mutex<Option<Held>> = Mutex::new(None);

#[derive(Default)]
struct Held {
    lines: Vec<String>,
    last: Option<String>,
    dropped: u64,
}

/// Where messages go.
pub(super) struct Messages;

impl Write for Messages {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match HELD.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(held) => held.keep(&String::from_utf8_lossy(line)),
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Held {
    fn keep(&mut self, line: &str) {
        self.last = Some(plain(line));
        if self.lines.len() < KEPT {
            self.lines.push(line.to_owned());
        } else {
            self.dropped += 1;
        }
    }
}

/// Keeps all messages while it lives, and writes them at its end.
pub(super) struct Hold(());

impl Hold {
    /// From here on, nothing is written.
    pub(super) fn new() -> Hold {
        *HELD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Held::default());
        Hold(())
    }

    /// The last message since this was asked before, without colours.
    pub(super) fn last(&self) -> Option<String> {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.last.take()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let mut text: String = held.lines.concat();
        if held.dropped > 0 {
            text.push_str(&format!("cowtrace: {} more messages were not kept\n", held.dropped));
        }
        // Nobody may be there to read it.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// A line without codes for colours.
fn plain(line: &str) -> String {
    let mut parts = line.trim_end().split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out_of_the_last_message() {
        assert_eq!(plain("\x1b[33m WARN\x1b[0m lost 3\n"), " WARN lost 3");
        assert_eq!(plain("plain"), "plain");
    }
}
