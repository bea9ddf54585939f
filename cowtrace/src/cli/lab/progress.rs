//! How far the lab is: one line that is written over, on a terminal only.

use std::io::{self, IsTerminal as _, Write as _};

use super::super::text;
use crate::{
    export::{printable, shorten},
    lab::Progress,
};

/// The line; it goes when this is dropped.
pub(super) struct ProgressLine {
    on: bool,
    /// Which experiment of how many.
    place: String,
}

impl ProgressLine {
    pub(super) fn new() -> ProgressLine {
        ProgressLine { on: io::stderr().is_terminal(), place: String::new() }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        if !self.on {
            return;
        }
        let line = self.line(progress);
        // A full line would wrap, and could not be written over.
        let width = text::terminal_width(&io::stderr()).map_or(79, |width| width.saturating_sub(1));
        write(&shorten(&printable(&line), width));
    }

    fn line(&mut self, progress: &Progress) -> String {
        match progress {
            Progress::Started { index, total, id, title } => {
                let number = index + 1;
                self.place = format!("[{number:>width$}/{total}] {id}", width = total.to_string().len());
                format!("{}: {title}", self.place)
            }
            Progress::Step(step) => format!("{}: {step}", self.place),
            Progress::Finished { .. } => String::new(),
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.on {
            write("");
        }
    }
}

fn write(line: &str) {
    // Progress that cannot be shown is no reason to stop.
    let _ = io::stderr().write_all(format!("\r\x1b[K{line}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_whose_it_is() {
        let mut line = ProgressLine { on: false, place: String::new() };
        let started = Progress::Started { index: 2, total: 36, id: "snapshot", title: "A save" };
        assert_eq!(line.line(&started), "[ 3/36] snapshot: A save");
        assert_eq!(line.line(&Progress::Step("saving".into())), "[ 3/36] snapshot: saving");
        let finished = Progress::Finished { id: "snapshot", held: 1, claims: 1, residual_pages: 0 };
        assert_eq!(line.line(&finished), "");
    }
}
