//! The table of processes.

use ratatui::text::Line;

use super::{
    Looks,
    columns::{Column, Fitted, tail},
    numbers::{byte_rate, count, rate, size},
};
use crate::{
    model::{Process, RegionFaults},
    tui::model::{Row, SortBy},
};

const COLUMNS: [Column; 8] = [
    Column { title: "PID", short: "PID", width: 7, least: 7, rank: 0, text: false },
    Column { title: "COMM", short: "COMM", width: 15, least: 4, rank: 0, text: true },
    Column { title: "COPIES/S", short: "COPY/S", width: 9, least: 7, rank: 0, text: false },
    Column { title: "BYTES/S", short: "BYTES/S", width: 10, least: 10, rank: 1, text: false },
    Column { title: "FILE/S", short: "FILE/S", width: 7, least: 7, rank: 5, text: false },
    Column { title: "COPIES", short: "COPIES", width: 11, least: 11, rank: 2, text: false },
    Column { title: "COPIED", short: "COPIED", width: 10, least: 10, rank: 3, text: false },
    Column { title: "TOP REGION", short: "REGION", width: 10, least: 10, rank: 4, text: true },
];

/// The place of the column that processes are sorted by.
fn marked(sort: SortBy) -> usize {
    match sort {
        SortBy::Pid => 0,
        SortBy::Comm => 1,
        SortBy::CopyRate => 2,
        SortBy::ByteRate => 3,
        SortBy::FileRate => 4,
        SortBy::Copies => 5,
        SortBy::Bytes => 6,
    }
}

/// The table's columns for a width.
pub(super) fn columns(width: usize, looks: Looks) -> Fitted<'static> {
    Fitted::new(&COLUMNS, width, looks)
}

/// The titles of the columns.
pub(super) fn titles(fitted: &Fitted, sort: SortBy) -> Line<'static> {
    fitted.titles(Some(marked(sort)))
}

/// One process.
pub(super) fn row(row: &Row, fitted: &Fitted, looks: Looks) -> Line<'static> {
    let line = fitted.line(|place, width| match place {
        0 => row.process.pid.to_string(),
        1 => looks.clean(&row.process.comm),
        2 => rate(row.rates.copies, width, looks),
        3 => byte_rate(row.rates.bytes, looks),
        4 => rate(row.rates.file, width, looks),
        5 => count(row.figures.copies, width, looks),
        6 => size(row.figures.bytes, looks),
        _ => top_region(&row.process, width, looks),
    });
    match row.process.end_ns {
        Some(_) => line.style(looks.faint()),
        None => line,
    }
}

/// The mapping with the most copies.
fn top_region(process: &Process, width: usize, looks: Looks) -> String {
    let copied = |region: &&RegionFaults| {
        let faults = &region.faults;
        [faults.copy, faults.file, faults.ksm, faults.hugetlb].iter().any(|count| count.unwrap_or(0) > 0)
    };
    let top = process.regions.iter().find(copied);
    top.map_or_else(String::new, |region| tail(&name(region, looks), width, looks))
}

/// What a mapping is called.
pub(super) fn name(region: &RegionFaults, looks: Looks) -> String {
    if region.name.is_empty() { "[anon]".to_owned() } else { looks.clean(&region.name) }
}
