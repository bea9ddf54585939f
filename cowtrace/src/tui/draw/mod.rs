//! From a frame, and what is shown of it, to lines of text.

mod columns;
mod forks;
mod header;
mod help;
mod looks;
mod numbers;
mod process;
mod processes;
#[cfg(test)]
mod tests;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use forks::ForkTable;
pub use looks::Looks;

use super::model::{Frame, Screenful, SortBy, View};
use crate::export::thousands;

/// Lines from which on there is a line for who is traced.
const SUBJECT_FROM: usize = 12;
/// Lines from which on there is a line for keys.
const FOOTER_FROM: usize = 5;
/// Lines from which on forks are shown below processes.
const FORKS_FROM: usize = 12;

/// Draws a screen; `None` before the first frame.
pub fn screen(
    buffer: &mut Buffer,
    area: Rect,
    view: &mut View,
    frame: Option<&Frame>,
    subject: &str,
    looks: Looks,
) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let mut lines = Vec::new();
    let footer = height >= FOOTER_FROM;
    let body = height - usize::from(footer);
    match frame {
        Some(frame) => {
            if height >= SUBJECT_FROM {
                lines.push(header::subject(frame, subject, view.paused, width, looks));
            }
            if height > 2 {
                lines.push(header::totals(frame, width, looks));
            }
            let room = body.saturating_sub(lines.len());
            lines.extend(content(view, frame, width, room, looks));
        }
        None => lines.push(Line::raw("waiting for the first second")),
    }
    lines.truncate(body);
    if footer {
        lines.resize(body, Line::default());
        lines.push(header::footer(view, width, looks));
    }
    for (y, line) in (area.y..).zip(&lines) {
        // A line has its own style besides those of its parts.
        buffer.set_style(Rect { y, height: 1, ..area }, line.style);
        buffer.set_line(area.x, y, line, area.width);
    }
}

fn content(view: &mut View, frame: &Frame, width: usize, height: usize, looks: Looks) -> Vec<Line<'static>> {
    let forks = || ForkTable::new(frame, width, looks);
    let (mut lines, text) = match &view.screenful {
        Screenful::Processes => return lists(view, frame, width, height, looks),
        Screenful::Forks if frame.forks.is_empty() => (Vec::new(), vec![Line::raw("no fork is in flight")]),
        Screenful::Forks => (vec![forks().titles()], forks().rows(frame.forks.iter())),
        Screenful::Process(row) => (Vec::new(), process::lines(row, frame, width, looks)),
        Screenful::Help => (Vec::new(), help::lines(looks)),
    };
    let shown = view.lines(text.len(), height.saturating_sub(lines.len()));
    lines.extend(text.into_iter().skip(shown.start).take(shown.len()));
    lines
}

/// Processes, and below them forks: these take a third of the room, or what the others leave.
fn lists(view: &mut View, frame: &Frame, width: usize, height: usize, looks: Looks) -> Vec<Line<'static>> {
    let rows = view.rows(frame);
    let beside = if height + 2 >= FORKS_FROM && !frame.forks.is_empty() {
        let third = (height / 3).max(2);
        let left = height.saturating_sub(rows.len() + 1);
        // A blank line and the titles.
        (frame.forks.len() + 2).min(third.max(left))
    } else {
        0
    };
    let fitted = processes::columns(width, looks);
    let (shown, cursor) = view.window(&rows, height.saturating_sub(beside + 1));
    let mut lines = vec![processes::titles(&fitted, view.sort)];
    for index in shown {
        let line = processes::row(rows[index], &fitted, looks);
        lines.push(if index == cursor { line.patch_style(looks.selected()) } else { line });
    }
    if rows.is_empty() {
        lines.push(Line::raw(if view.filter.is_empty() {
            "no process"
        } else {
            "no process fits the filter"
        }));
    }
    if beside > 2 {
        lines.resize(height - beside + 1, Line::default());
        let forks = ForkTable::new(frame, width, looks);
        lines.push(forks.titles());
        lines.extend(forks.rows(frame.forks.iter().take(beside - 2)));
    }
    lines
}

/// One frame as text, with all processes that copied anything and all forks.
pub fn text(frame: &Frame, subject: &str, width: usize, looks: Looks) -> String {
    let mut lines = vec![
        header::subject(frame, subject, false, width, looks),
        header::totals(frame, width, looks),
        Line::default(),
    ];
    let mut rows: Vec<_> = frame.rows.iter().filter(|row| row.figures.is_any()).collect();
    SortBy::CopyRate.sort(&mut rows, false);
    let fitted = processes::columns(width, looks);
    lines.push(fitted.titles(None));
    lines.extend(rows.iter().map(|row| processes::row(row, &fitted, looks)));
    let idle = frame.rows.len() - rows.len();
    if idle > 0 {
        lines.push(Line::raw(format!("and {} without copies", thousands(idle as u64))));
    }
    if !frame.forks.is_empty() {
        let forks = ForkTable::new(frame, width, looks);
        lines.extend([Line::default(), forks.titles()]);
        lines.extend(forks.rows(frame.forks.iter()));
    }
    let plain = |line: &Line| {
        let text: String = line.spans.iter().map(|span: &Span| span.content.as_ref()).collect();
        format!("{}\n", text.trim_end())
    };
    lines.iter().map(plain).collect()
}
