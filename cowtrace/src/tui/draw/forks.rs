//! The table of forks.

use ratatui::text::Line;

use super::{
    Looks,
    columns::{Column, Fitted, columns_of},
    numbers::{age, size},
};
use crate::{
    export::bytes,
    model::{Fork, ForkEnd, rates},
    tui::model::{ForkRow, Frame},
};

const BILL: [Column; 7] = [
    Column { title: "FORK", short: "FORK", width: 17, least: 9, rank: 0, text: true },
    Column { title: "COMM", short: "COMM", width: 15, least: 15, rank: 9, text: true },
    Column { title: "AGE", short: "AGE", width: 7, least: 7, rank: 4, text: false },
    Column { title: "END", short: "END", width: 4, least: 4, rank: 8, text: true },
    Column { title: "BY PARENT", short: "PARENT", width: 10, least: 10, rank: 7, text: false },
    Column { title: "BY CHILD", short: "CHILD", width: 10, least: 10, rank: 6, text: false },
    Column { title: "EXTRA", short: "EXTRA", width: 10, least: 10, rank: 0, text: false },
];
/// What is expected at the end, when that is, and between which bounds.
const FORECAST: [Column; 3] = [
    Column { title: "EXPECTED", short: "EXPECTED", width: 10, least: 10, rank: 1, text: false },
    Column { title: "AT AGE", short: "AT AGE", width: 7, least: 7, rank: 2, text: false },
    Column { title: "RANGE", short: "RANGE", width: 21, least: 21, rank: 5, text: false },
];
const CURVE: Column = Column { title: "OVER TIME", short: "", width: 9, least: 9, rank: 3, text: true };

/// The curve takes no more than that.
const CURVE_WIDTH: usize = 40;

const WITHOUT_FORECAST: [Column; 8] = [BILL[0], BILL[1], BILL[2], BILL[3], BILL[4], BILL[5], BILL[6], CURVE];
const WITH_FORECAST: [Column; 11] = [
    BILL[0],
    BILL[1],
    BILL[2],
    BILL[3],
    BILL[4],
    BILL[5],
    BILL[6],
    FORECAST[0],
    FORECAST[1],
    FORECAST[2],
    CURVE,
];

/// The table, as wide as there is room.
pub(super) struct ForkTable {
    fitted: Fitted<'static>,
    foreseen: bool,
    now_ns: u64,
    looks: Looks,
}

impl ForkTable {
    /// For the forks of a frame.
    pub(super) fn new(frame: &Frame, width: usize, looks: Looks) -> ForkTable {
        let columns: &[Column] = if frame.foreseen { &WITH_FORECAST } else { &WITHOUT_FORECAST };
        let fitted = Fitted::new(columns, width, looks);
        ForkTable { fitted, foreseen: frame.foreseen, now_ns: frame.at_ns, looks }
    }

    /// The titles of the columns.
    pub(super) fn titles(&self) -> Line<'static> {
        self.fitted.titles(None)
    }

    /// A line for each fork.
    pub(super) fn rows<'a>(&self, forks: impl Iterator<Item = &'a ForkRow>) -> Vec<Line<'static>> {
        forks.map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &ForkRow) -> Line<'static> {
        let ForkTable { foreseen, now_ns, looks, .. } = *self;
        let fork = &row.fork;
        // What was expected of one that has ended is no news.
        let forecast = fork.forecasts.last().filter(|_| fork.ended_by == ForkEnd::Running);
        let line = self.fitted.line(|place, width| match place {
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
            7 if foreseen => forecast.map_or_else(String::new, |f| bytes(f.expected_bytes)),
            8 if foreseen => forecast.map_or_else(String::new, |f| age(f.end_ns.saturating_sub(fork.at_ns))),
            9 if foreseen => forecast.map_or_else(String::new, |f| {
                format!("{}{}{}", bytes(f.low_bytes), looks.dash(), bytes(f.high_bytes))
            }),
            _ => curve(fork, width.min(CURVE_WIDTH), looks),
        });
        match fork.ended_by {
            ForkEnd::Running => line,
            _ => line.style(looks.faint()),
        }
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
