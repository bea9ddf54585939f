//! The first and the last line: sums, and what keys do.

use ratatui::text::{Line, Span};

use super::{Looks, columns::pieces, numbers::age};
use crate::{
    export::{bytes, thousands},
    model::Lost,
    tui::model::{Frame, Rates, Screenful, View},
};

/// Who is traced by what, and for how long.
pub(super) fn subject(
    frame: &Frame,
    subject: &str,
    paused: bool,
    width: usize,
    looks: Looks,
) -> Line<'static> {
    let mut parts = vec![
        (Span::styled("cowtrace top", looks.heading()), 3),
        (Span::raw(looks.clean(subject)), 1),
        (
            Span::styled(
                format!("{}, Linux {}", frame.backend.name, looks.clean(&frame.release)),
                looks.faint(),
            ),
            4,
        ),
        (Span::raw(age(frame.at_ns)), 2),
    ];
    if paused {
        parts.push((Span::styled("paused", looks.notice()), 0));
    }
    pieces(parts, width)
}

/// Sums over all processes.
pub(super) fn totals(frame: &Frame, width: usize, looks: Looks) -> Line<'static> {
    let totals = &frame.totals;
    let noun = |count: usize, one: &str, many: &str| {
        format!("{} {}", thousands(count as u64), if count == 1 { one } else { many })
    };
    let mut parts = Vec::new();
    let unknown = || "?".to_owned();
    if totals.rates != Rates::default() {
        let copies = totals.rates.copies.map_or_else(unknown, |rate| thousands(rate.round() as u64));
        parts.push((Span::styled(format!("{copies} copies/s"), looks.strong()), 1));
        let copied = totals.rates.bytes.map_or_else(unknown, |rate| bytes(rate.round() as u64));
        parts.push((Span::raw(format!("{copied}/s")), 2));
    }
    let copies = totals.figures.copies.map_or_else(unknown, thousands);
    let copied = totals.figures.bytes.map_or_else(unknown, bytes);
    parts.push((Span::raw(format!("total {copies} ({copied})")), 3));
    parts.push((Span::raw(noun(totals.living, "process", "processes")), 5));
    if totals.ended > 0 {
        parts.push((Span::raw(format!("{} ended", thousands(totals.ended as u64))), 6));
    }
    parts.push((Span::raw(format!("{} in flight", noun(totals.in_flight, "fork", "forks"))), 4));
    if !frame.lost.is_none() {
        parts.push((Span::styled(losses(&frame.lost), looks.alarm()), 0));
    }
    pieces(parts, width)
}

fn losses(lost: &Lost) -> String {
    let what = [
        (lost.events, "records"),
        (lost.processes, "processes (--max-tasks)"),
        (lost.regions, "regions"),
        (lost.stacks, "stacks"),
    ];
    let some = what.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = some.map(|(count, what)| format!("{} {what}", thousands(*count))).collect();
    format!("lost {}", words.join(", "))
}

/// What keys do here, or what is to be told.
pub(super) fn footer(view: &View, width: usize, looks: Looks) -> Line<'static> {
    if view.typing {
        return Line::from(vec![
            Span::styled("filter: ", looks.strong()),
            Span::raw(looks.clean(&view.filter)),
            Span::styled(" ", looks.selected()),
        ]);
    }
    if let Some(message) = &view.message {
        return Line::styled(looks.clean(message), looks.notice());
    }
    let keys: &[(&str, &str)] = match view.screenful {
        Screenful::Help => &[("any key", "back")],
        Screenful::Processes => &[
            ("q", "quit"),
            ("?", "help"),
            ("Enter", "open"),
            ("/", "filter"),
            ("s", "sort"),
            ("r", "reverse"),
            ("f", "forks"),
            ("p", "pause"),
        ],
        _ => &[("q", "quit"), ("Esc", "back"), ("j k", "scroll"), ("p", "pause")],
    };
    let mut parts = Vec::new();
    if !view.filter.is_empty() && matches!(view.screenful, Screenful::Processes) {
        parts.push((Span::styled(format!("filter: {}", looks.clean(&view.filter)), looks.notice()), 0));
    }
    for (rank, (key, what)) in (1..).zip(keys) {
        parts.push((Span::raw(format!("{key} {what}")), rank));
    }
    pieces(parts, width).style(looks.faint())
}
