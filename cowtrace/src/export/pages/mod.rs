//! Which pages were copied: a map of the address space for terminals, and as a picture.

mod svg;
mod text;

#[cfg(test)]
pub(super) mod tests;

use std::cmp::Reverse;

pub use svg::page_picture;
pub(super) use text::render;

use super::{printable, table::quote};
use crate::model::{PageStrip, Process, ProcessPages, Report};

/// A process, with its pages.
type Mapped<'a> = (&'a Process, &'a ProcessPages);

/// Processes that can be drawn, the heaviest first: those with copies, or, where there are none, with replacements.
fn mapped(report: &Report) -> Vec<Mapped<'_>> {
    let with_pages = |process: &'_ Process| process.pages.as_ref().is_some_and(|pages| pages.pages > 0);
    let copied = report.processes.iter().any(with_pages);
    let worth = |(_, pages): &Mapped<'_>| if copied { pages.pages > 0 } else { pages.replaced_pages > 0 };
    let mut all: Vec<Mapped<'_>> = report
        .processes
        .iter()
        .filter_map(|process| Some((process, process.pages.as_ref()?)))
        .filter(worth)
        .collect();
    all.sort_by_key(|(process, pages)| (Reverse((pages.copies, pages.replacements)), process.start_ns));
    all
}

/// Of these the first ones, as long as they have a hundredth of the copies of the first: what is to be drawn.
fn heaviest<'a>(mapped: &[Mapped<'a>], most: usize) -> Vec<Mapped<'a>> {
    let hits = |(_, pages): &Mapped<'_>| if pages.pages > 0 { pages.copies } else { pages.replacements };
    let least = mapped.first().map_or(0, hits) / 100;
    let heavy = |process: &&Mapped<'_>| hits(process) >= least && !process.1.strips.strips.is_empty();
    mapped.iter().take(most).take_while(heavy).copied().collect()
}

/// `1234 server --save`.
fn title(process: &Process) -> String {
    let name = if process.cmdline.is_empty() { process.comm.clone() } else { quote(&process.cmdline) };
    printable(&format!("{} {name}", process.pid)).into_owned()
}

/// The name of a mapping; unnamed memory has one as well.
fn named(name: &str) -> String {
    printable(if name.is_empty() { "[anon]" } else { name }).into_owned()
}

/// Pages of a cell that are between the first and the last that were hit: the others may not be mapped at all.
fn pages_of_cell(strip: &PageStrip, place: usize) -> u64 {
    let first = strip.first_page + place as u64 * strip.cell_pages;
    let end = (first + strip.cell_pages).min(strip.to_page + 1);
    end.saturating_sub(first.max(strip.from_page)).max(1)
}

/// The smallest power of two of pages that makes at most so many cells of these strips.
fn scale<'a>(strips: impl Iterator<Item = &'a PageStrip> + Clone, most: u64) -> u64 {
    let mut cell_pages = strips.clone().map(|strip| strip.cell_pages).max().unwrap_or(1);
    let cells = |cell_pages: u64| -> u64 {
        strips.clone().map(|strip| strip.to_page / cell_pages - strip.from_page / cell_pages + 1).sum()
    };
    // More strips than cells: each has one at least.
    let least = strips.clone().count() as u64;
    while cells(cell_pages) > most.max(least) {
        cell_pages *= 2;
    }
    cell_pages
}
