//! The table of forks.

use ratatui::text::Line;

use super::{
    Looks,
    columns::{Column, Fitted, columns_of},
    numbers::{age, size},
};
use crate::{
    model::{Fork, ForkEnd, rates},
    tui::model::ForkRow,
};

const COLUMNS: [Column; 8] = [
    Column { title: "FORK", short: "FORK", width: 17, least: 9, rank: 0, text: true },
    Column { title: "COMM", short: "COMM", width: 15, least: 15, rank: 6, text: true },
    Column { title: "AGE", short: "AGE", width: 7, least: 7, rank: 2, text: false },
    Column { title: "END", short: "END", width: 4, least: 4, rank: 5, text: true },
    Column { title: "BY PARENT", short: "PARENT", width: 10, least: 10, rank: 4, text: false },
    Column { title: "BY CHILD", short: "CHILD", width: 10, least: 10, rank: 3, text: false },
    Column { title: "EXTRA", short: "EXTRA", width: 10, least: 10, rank: 0, text: false },
    Column { title: "OVER TIME", short: "", width: 9, least: 9, rank: 1, text: true },
];

/// The curve takes no more than that.
const CURVE: usize = 40;

/// The titles of the columns.
pub(super) fn titles(width: usize, looks: Looks) -> Line<'static> {
    Fitted::new(&COLUMNS, width, looks).titles(None)
}

/// A line for each fork.
pub(super) fn rows<'a>(
    forks: impl Iterator<Item = &'a ForkRow>,
    now_ns: u64,
    width: usize,
    looks: Looks,
) -> Vec<Line<'static>> {
    let fitted = Fitted::new(&COLUMNS, width, looks);
    forks.map(|row| line(row, now_ns, &fitted, looks)).collect()
}

fn line(row: &ForkRow, now_ns: u64, fitted: &Fitted, looks: Looks) -> Line<'static> {
    let fork = &row.fork;
    let line = fitted.line(|place, width| match place {
        0 => pair(fork, width, looks),
        1 => looks.clean(&row.comm),
        2 => age(fork.lifetime_ns.unwrap_or_else(|| now_ns.saturating_sub(fork.at_ns))),
        3 => match fork.ended_by {
            ForkEnd::Running => "",
            ForkEnd::Exec => "exec",
            ForkEnd::Exit => "exit",
        }
        .to_owned(),
        4 => size(fork.parent_copied_bytes, looks),
        5 => size(fork.child_copied_bytes, looks),
        6 => size(fork.extra_peak_bytes, looks),
        _ => curve(fork, width.min(CURVE), looks),
    });
    match fork.ended_by {
        ForkEnd::Running => line,
        _ => line.style(looks.faint()),
    }
}

/// Both sides, as far as there is room.
fn pair(fork: &Fork, width: usize, looks: Looks) -> String {
    let (parent, child, arrow) = (fork.parent, fork.child, looks.arrow());
    let forms =
        [format!("{parent} {arrow} {child}"), format!("{parent}{arrow}{child}"), format!("{arrow}{child}")];
    forms.into_iter().find(|form| columns_of(form) <= width).unwrap_or_else(|| child.to_string())
}

/// Copies per second from the fork on, the highest bar being the most.
fn curve(fork: &Fork, width: usize, looks: Looks) -> String {
    // No more bars than there are stretches of time.
    let parts = width.min(fork.series.len().saturating_sub(1).max(8));
    let rates = rates(&fork.series, parts);
    let most = rates.iter().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    rates.into_iter().map(|rate| looks.bar(rate / most)).collect()
}
