//! The map for terminals: a line for each mapping, and pages that were copied more than once.

use std::{cmp::Reverse, collections::HashMap, fmt::Write as _};

use super::{Mapped, heaviest, mapped, named, pages_of_cell, title};
use crate::{
    export::{
        Style, printable,
        stacks::wrapped,
        table::{bar, shorten, tail, thousands},
    },
    model::{PageCell, PageStrip, ProcessPages, RepeatedPages, Report},
};

/// Processes with a map.
const PROCESSES: usize = 5;
/// Groups of repeated pages shown of each.
const GROUPS: usize = 5;
/// Columns of a map at most.
const WIDEST: usize = 64;
/// Columns from which on addresses are shown, and how many pages a mapping has.
const WITH_ADDRESSES: usize = 90;
const WITH_SIZES: usize = 48;

/// Writes the section; `top`: processes at most, 0 for no bound but that of the section.
pub(in crate::export) fn render(text: &mut String, report: &Report, style: Style, top: usize) {
    if report.processes.iter().all(|process| process.pages.is_none()) {
        return;
    }
    let mapped = mapped(report);
    let room = style.width.saturating_sub(10).max(10);
    let say = |text: &mut String, first: &str, sentence: &str| {
        for (number, line) in wrapped(sentence.split(' ').map(str::to_owned), " ", room).iter().enumerate() {
            let _ = writeln!(text, "{:<9}{line}", if number == 0 { first } else { "" });
        }
    };
    text.push('\n');
    say(text, "pages", &summary(report));
    if mapped.is_empty() {
        return;
    }
    let again = match style.color {
        true => "yellow: some more than once, ×N so often",
        false => "2 to 9 and +: copied so often, where one was copied more than once",
    };
    say(text, "", &format!("· no page, ▁ few to █ all pages of a cell copied; {again}; ░ replaced only"));
    let most = if top == 0 { PROCESSES } else { top.min(PROCESSES) };
    let shown = heaviest(&mapped, most);
    for process in &shown {
        one(text, *process, report.kernel.page_size, style);
    }
    if let Some(rest) = mapped.get(shown.len()..).filter(|rest| !rest.is_empty()) {
        let copies: u64 = rest.iter().map(|(_, pages)| pages.copies).sum();
        let processes = counted(rest.len() as u64, "more process", "more processes");
        text.push('\n');
        lines(
            text,
            &format!("… {processes} with {} (JSON has all)", counted(copies, "copy", "copies")),
            1,
            style.width.saturating_sub(1),
        );
    }
}

/// The sums over all processes.
fn summary(report: &Report) -> String {
    let all = || report.processes.iter().filter_map(|process| process.pages.as_ref());
    let sum = |value: fn(&ProcessPages) -> u64| all().map(value).sum::<u64>();
    let again = |pages: &ProcessPages| {
        let listed = pages.repeated.iter().filter(|pages| pages.run.copies > 1).map(|pages| pages.run.pages);
        listed.sum::<u64>() + pages.repeated_left_out.pages
    };
    let mut parts = vec![
        format!(
            "{} copied{}",
            counted(sum(|pages| pages.pages), "page", "pages"),
            match (sum(|pages| pages.pages), sum(again)) {
                (0, _) => String::new(),
                (_, 0) => ", each once".to_owned(),
                (_, again) => format!(", {} of them more than once", thousands(again)),
            }
        ),
        format!(
            "{} replaced (zero, file, ksm, hugetlb, pinned)",
            thousands(sum(|pages| pages.replaced_pages))
        ),
    ];
    match sum(|pages| pages.unplaced) {
        0 => {}
        unplaced => parts.push(format!(
            "{} in other processes' memory, or where only the mapping is known",
            counted(unplaced, "fault", "faults")
        )),
    }
    match sum(|pages| pages.overflow) {
        0 => {}
        overflow => parts.push(format!("{} without room", counted(overflow, "fault", "faults"))),
    }
    match report.folded_processes() {
        0 => {}
        folded => parts.push(format!(
            "{} not by page (--max-ended keeps more)",
            counted(folded, "ended process", "ended processes")
        )),
    }
    parts.join("; ")
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { many })
}

fn one(text: &mut String, (process, pages): Mapped<'_>, page_size: u64, style: Style) {
    let (bold, faint, plain) = if style.color { ("\x1b[1m", "\x1b[90m", "\x1b[0m") } else { ("", "", "") };
    let width = style.width.saturating_sub(1);
    let _ = writeln!(text, "\n {bold}{}{plain}", shorten(&title(process), width.saturating_sub(1).max(8)));
    let has_copies = |strip: &&PageStrip| strip.whole.copied > 0 || pages.pages == 0;
    let strips: Vec<&PageStrip> = pages.strips.strips.iter().filter(has_copies).collect();
    let longest = strips.iter().map(|strip| named(&strip.name).chars().count()).max().unwrap_or(0);
    let name_width = longest.clamp(4, (width / 4).clamp(6, 28));
    let ranges: Vec<String> = strips.iter().map(|strip| range(strip, page_size)).collect();
    let range_width = match width {
        WITH_ADDRESSES.. => ranges.iter().map(|range| range.chars().count() + 2).max().unwrap_or(0),
        _ => 0,
    };
    let sizes: Vec<String> = strips.iter().map(|strip| size(strip, width >= WITH_SIZES)).collect();
    let size_width = sizes.iter().map(|size| size.chars().count()).max().unwrap_or(0);
    let map_width = width.saturating_sub(2 + name_width + 1 + range_width + 1 + size_width).clamp(4, WIDEST);
    for ((strip, range), size) in strips.iter().zip(&ranges).zip(&sizes) {
        let name = tail(&named(&strip.name), name_width);
        let _ = write!(text, "  {name:<name_width$} ");
        if range_width > 0 {
            let _ = write!(text, "{faint}{range:<range_width$}{plain}");
        }
        let (map, drawn) = map(strip, map_width, style);
        let _ = writeln!(text, "{map}{:1$} {size:>size_width$}", "", map_width.saturating_sub(drawn));
    }
    let replaced = pages.strips.strips.iter().filter(|strip| !has_copies(strip));
    let replaced = replaced.fold((0, 0), |(mappings, hits), strip| (mappings + 1, hits + strip.replacements));
    let shown = pages.strips.strips.len();
    let quiet = process.regions.len().saturating_sub(shown + pages.strips.left_out as usize) as u64;
    let mut rest = Vec::new();
    if pages.strips.left_out > 0 {
        let left_out = counted(pages.strips.left_out, "more mapping", "more mappings");
        rest.push(format!("{left_out} with {}", counted(pages.strips.left_out_hits, "copy", "copies")));
    }
    if replaced.0 > 0 {
        let pages = counted(replaced.1, "page replaced, none copied", "pages replaced, none copied");
        rest.push(format!("{} with {pages}", counted(replaced.0, "mapping", "mappings")));
    }
    if quiet > 0 {
        rest.push(format!("{} with faults, but no copies", counted(quiet, "mapping", "mappings")));
    }
    if !rest.is_empty() {
        lines(text, &format!("… {}", rest.join("; ")), 2, width);
    }
    repeated(text, pages, width);
}

fn range(strip: &PageStrip, page_size: u64) -> String {
    format!("{:x}-{:x}", strip.from_page * page_size, (strip.to_page + 1) * page_size)
}

/// `×3 17 of 33`: the most copies of a page, pages that were copied, pages of the mapping.
fn size(strip: &PageStrip, with_mapping: bool) -> String {
    let mut copied = thousands(u64::from(strip.whole.copied));
    if strip.whole.most > 1 && with_mapping {
        copied = format!("×{} {copied}", thousands(strip.whole.most.into()));
    }
    match with_mapping {
        true => format!("{copied} of {}", thousands(strip.mapping_pages.max(strip.extent()))),
        false => copied,
    }
}

/// A mapping in so many columns at most, and how many it takes.
fn map(strip: &PageStrip, columns: usize, style: Style) -> (String, usize) {
    let cells = |cell_pages: u64| strip.to_page / cell_pages - strip.from_page / cell_pages + 1;
    let mut cell_pages = strip.cell_pages;
    while cells(cell_pages) > columns as u64 {
        // Cells need not be a power of two of pages here, so that the room is used.
        cell_pages += strip.cell_pages * (cells(cell_pages) / columns as u64).max(1);
    }
    let drawn = strip.coarser(cell_pages);
    let mut text = String::new();
    let mut last = "";
    for (place, cell) in drawn.cells.iter().enumerate() {
        let color = color(cell);
        if style.color && color != last {
            text.push_str(color);
            last = color;
        }
        text.push(sign(cell, pages_of_cell(&drawn, place), style.color));
    }
    if !last.is_empty() {
        text.push_str("\x1b[0m");
    }
    (text, drawn.cells.len())
}

fn color(cell: &PageCell) -> &'static str {
    match cell {
        cell if cell.again > 0 => "\x1b[0;33m",
        cell if cell.copied > 0 => "\x1b[0;36m",
        _ => "\x1b[0;90m",
    }
}

fn sign(cell: &PageCell, pages: u64, color: bool) -> char {
    match cell {
        // A colour says it as well, and leaves room for the share.
        cell if cell.again > 0 && !color => char::from_digit(cell.most, 10).unwrap_or('+'),
        cell if cell.copied > 0 => bar(f64::from(cell.copied) / pages as f64),
        cell if cell.replaced > 0 => '░',
        _ => '·',
    }
}

/// Runs that have the same reason.
struct Group<'a> {
    first: &'a RepeatedPages,
    runs: u64,
    pages: u64,
}

fn repeated(text: &mut String, pages: &ProcessPages, width: usize) {
    let mut index: HashMap<(&str, &str, u32, u32), usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for pages in &pages.repeated {
        let run = &pages.run;
        let same = (pages.region.as_str(), pages.why.as_str(), run.copies, run.replacements);
        let at = *index.entry(same).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(group) => {
                group.runs += 1;
                group.pages += run.pages;
            }
            None => groups.push(Group { first: pages, runs: 1, pages: run.pages }),
        }
    }
    groups.sort_by_key(|group| {
        let run = &group.first.run;
        Reverse(group.pages * (u64::from(run.copies) + u64::from(run.replacements)))
    });
    for group in groups.iter().take(GROUPS) {
        let run = &group.first.run;
        let mut times = Vec::new();
        if run.copies > 1 {
            times.push(format!("copied {} times", thousands(run.copies.into())));
        }
        if run.replacements > 1 {
            times.push(format!("replaced {} times", thousands(run.replacements.into())));
        }
        let line = format!(
            "{} in {}, {} {:#x}, {}: {}",
            counted(group.pages, "page", "pages"),
            named(&group.first.region),
            match (group.runs, group.pages) {
                (1, 1) => "at",
                (1, _) => "from",
                _ => "the first at",
            },
            run.start,
            times.join(", "),
            printable(&group.first.why)
        );
        lines(text, &line, 4, width);
    }
    let more: u64 = groups.iter().skip(GROUPS).map(|group| group.pages).sum();
    match more + pages.repeated_left_out.pages {
        0 => {}
        more => {
            lines(text, &format!("… {} more than once", counted(more, "more page", "more pages")), 4, width)
        }
    }
}

/// A sentence that goes on in lines of its own.
fn lines(text: &mut String, sentence: &str, indent: usize, width: usize) {
    let room = width.saturating_sub(indent + 2).max(8);
    for (number, line) in wrapped(sentence.split(' ').map(str::to_owned), " ", room).iter().enumerate() {
        let indent = if number == 0 { indent } else { indent + 2 };
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}
