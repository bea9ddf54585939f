//! How text is to look: colour and width.

use std::io::IsTerminal;

use super::ColorChoice;
use crate::export::Style;

/// Width of a report that does not go to a terminal.
const DEFAULT_WIDTH: usize = 100;

/// Whether a stream gets colours. `NO_COLOR` (any value but an empty one) turns them off, unless they are asked for.
pub(super) fn use_color(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            stream.is_terminal() && !forbidden && !dumb
        }
    }
}

/// Colour and width for a stream.
pub(super) fn style(choice: ColorChoice, stream: &(impl IsTerminal + std::os::fd::AsRawFd)) -> Style {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|&n: &usize| n > 0);
    let width = columns.or_else(|| terminal_width(stream)).unwrap_or(DEFAULT_WIDTH);
    Style { color: use_color(choice, stream), width }
}

/// Columns of the terminal, if the stream is one.
pub(super) fn terminal_width(stream: &impl std::os::fd::AsRawFd) -> Option<usize> {
    // SAFETY: zero is a valid winsize; the call fills it or fails.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: a descriptor that is open while `stream` lives, and a valid pointer.
    let ret = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (ret == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
