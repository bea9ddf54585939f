//! The map as a picture: a grid for each mapping, all mappings of a process to one scale, as a file of its own.
//!
//! Its size is bounded: cells become larger, so that a process has at most [`CELLS`], and only the heaviest have a map.

use maud::{Markup, PreEscaped, html};

use super::{Mapped, heaviest, mapped, named, pages_of_cell, scale, title};
use crate::{
    export::table::{bytes, quote, shorten, tail, thousands},
    model::{PageCell, PageStrip, Report},
};

const STYLE: &str = include_str!("map.css");

/// Processes that are drawn, and cells of each.
const PROCESSES: usize = 6;
const CELLS: u64 = 1_536;
/// Cells in a row, the distance from one to the next, and how much of it is seen.
const ROW: u64 = 64;
const PITCH: u64 = 10;
const CELL: u64 = 9;
/// Where the grids begin, and the whole is wide.
const LEFT: u64 = 264;
const WIDTH: u64 = LEFT + ROW * PITCH + 8;
/// Height of a line of text.
const LINE: u64 = 17;
/// Characters of a mapping's name, and of a title.
const NAME: usize = 34;
const TITLE: usize = 110;

/// A map of the heaviest processes of a report.
pub fn page_picture(report: &Report) -> String {
    let mapped = mapped(report);
    let drawn = heaviest(&mapped, PROCESSES);
    let mut down = 3 * LINE;
    let mut parts: Vec<Markup> = Vec::new();
    for process in &drawn {
        down += 2 * LINE;
        parts.push(one(*process, report.kernel.page_size, &mut down));
    }
    let rest = mapped.len() - drawn.len();
    if rest > 0 || drawn.is_empty() {
        down += 2 * LINE;
        let remark = match drawn.is_empty() {
            true => "no page was copied".to_owned(),
            false => format!("{} more processes with copies are not drawn", thousands(rest as u64)),
        };
        parts.push(html! { text class="faint" x="0" y=(down) { (remark) } });
    }
    let (width, height) = (WIDTH + 32, down + LINE + 32);
    let heading = match report.command.is_empty() {
        true => "Pages copied on write".to_owned(),
        false => format!("Pages copied on write: {}", quote(&report.command)),
    };
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="map" role="img" viewBox={ "-16 -16 " (width) " " (height) }
            width=(width) height=(height) {
            title { (heading) }
            style { (PreEscaped(STYLE)) }
            defs {
                pattern id="cells" x=(LEFT) width=(PITCH) height=(PITCH) patternUnits="userSpaceOnUse" {
                    rect class="paper" x=(CELL) width=(PITCH - CELL) height=(PITCH) {}
                }
            }
            rect class="paper" x="-16" y="-16" width=(width) height=(height) {}
            text class="name" x="0" y="12" { (shorten(&heading, TITLE)) }
            (legend())
            @for part in &parts { (part) }
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", picture.into_string())
}

/// What the colours mean.
fn legend() -> Markup {
    let down = LINE + 8;
    let cell = |across: u64, class: &str| html! { rect class=(class) x=(across) y=(down) width=(CELL) height=(CELL) {} };
    let word = |across: u64, word: &str| html! { text x=(across) y=(down + CELL) { (word) } };
    html! {
        @for (place, class) in (0u64..).zip(["c q1", "c q2", "c q3", "c"]) { (cell(place * PITCH, class)) }
        (word(46, "copied: up to a quarter, half, three quarters, all of a cell's pages"))
        (cell(480, "again")) (cell(480 + PITCH, "more"))
        (word(506, "some twice, more often"))
        (cell(666, "o")) (word(682, "replaced only (zero, file, …)"))
    }
}

fn one((process, pages): Mapped<'_>, page_size: u64, down: &mut u64) -> Markup {
    let strips = &pages.strips.strips;
    let cell_pages = scale(strips.iter(), CELLS);
    let heading = shorten(&title(process), TITLE);
    let cell = match cell_pages {
        1 => format!("a cell is a page ({})", bytes(page_size)),
        pages => format!("a cell is {} pages ({})", thousands(pages), bytes(pages * page_size)),
    };
    let facts = format!(
        "{} pages copied, {} copies; {} replaced; {cell}",
        thousands(pages.pages),
        thousands(pages.copies),
        thousands(pages.replaced_pages)
    );
    let top = *down;
    *down += LINE + 8;
    let grids: Vec<Markup> =
        strips.iter().map(|strip| mapping(&strip.coarser(cell_pages), page_size, down)).collect();
    let left_out = pages.strips.left_out;
    if left_out > 0 {
        *down += LINE;
    }
    html! {
        text class="name" x="0" y=(top) { (heading) }
        text class="faint" x="0" y=(top + LINE) { (facts) }
        @for grid in &grids { (grid) }
        @if left_out > 0 {
            text class="faint" x="0" y=(*down) {
                (thousands(left_out)) " more mappings with "
                (thousands(pages.strips.left_out_hits)) " copies are not drawn"
            }
        }
    }
}

/// What a mapping is drawn as, from top to bottom.
enum Part {
    /// Cells from this one on.
    Row(usize),
    /// So many rows without a hit.
    Gap(u64),
}

fn parts(strip: &PageStrip) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, row) in strip.cells.chunks(ROW as usize).enumerate() {
        if row.iter().any(|cell| !cell.is_empty()) {
            parts.push(Part::Row(number * ROW as usize));
        } else if let Some(Part::Gap(rows)) = parts.last_mut() {
            *rows += 1;
        } else {
            parts.push(Part::Gap(1));
        }
    }
    parts
}

fn mapping(strip: &PageStrip, page_size: u64, down: &mut u64) -> Markup {
    *down += 10;
    let top = *down;
    let parts: Vec<Markup> = parts(strip)
        .into_iter()
        .map(|part| match part {
            Part::Row(first) => {
                let row = row(strip, first, page_size, *down);
                *down += PITCH;
                row
            }
            Part::Gap(rows) => {
                *down += LINE;
                let pages = rows * ROW * strip.cell_pages;
                html! { text class="faint small" x=(LEFT) y=(*down - 6) { "⋯ " (thousands(pages)) " pages without copies" } }
            }
        })
        .collect();
    *down = (*down).max(top + 3 * LINE - 2);
    let name = named(&strip.name);
    let of = strip.mapping_pages.max(strip.extent());
    let range = format!("{:x}-{:x}", strip.from_page * page_size, (strip.to_page + 1) * page_size);
    html! {
        g {
            title { (name) " " (strip.perms) " " (range) }
            text x="0" y=(top + 9) { (tail(&name, NAME)) }
            text class="faint small" x="0" y=(top + 9 + LINE - 3) { (range) " " (strip.perms) }
            text class="faint small" x="0" y=(top + 9 + 2 * (LINE - 3)) {
                (thousands(strip.whole.copied.into())) " of " (thousands(of)) " pages copied"
                @if strip.whole.again > 0 { ", " (thousands(strip.whole.again.into())) " again" }
            }
        }
        @for part in &parts { (part) }
    }
}

/// Neighbouring cells that look alike.
struct Block {
    class: &'static str,
    place: usize,
    cells: u64,
    pages: u64,
    sum: PageCell,
}

fn row(strip: &PageStrip, first: usize, page_size: u64, down: u64) -> Markup {
    let end = strip.cells.len().min(first + ROW as usize);
    let mut blocks: Vec<Block> = Vec::new();
    for (place, cell) in strip.cells.iter().enumerate().take(end).skip(first) {
        let pages = pages_of_cell(strip, place);
        let class = class(cell, pages);
        match blocks.last_mut() {
            Some(block) if block.class == class => {
                block.cells += 1;
                block.pages += pages;
                block.sum = block.sum.and(*cell);
            }
            _ => blocks.push(Block { class, place, cells: 1, pages, sum: *cell }),
        }
    }
    html! {
        @for block in &blocks {
            rect class=(block.class) x=(LEFT + (block.place - first) as u64 * PITCH) y=(down)
                width=(block.cells * PITCH - (PITCH - CELL)) height=(CELL) {
                @if !block.sum.is_empty() { title { (told(strip, block, page_size)) } }
            }
        }
        // Between the cells of a block.
        rect class="cells" x=(LEFT) y=(down) width=((end - first) as u64 * PITCH) height=(CELL) fill="url(#cells)" {}
    }
}

fn class(cell: &PageCell, pages: u64) -> &'static str {
    let by_share = match cell.most {
        0 if cell.replaced > 0 => return "o",
        0 => return "n",
        1 => ["c q1", "c q2", "c q3", "c"],
        2 => ["again q1", "again q2", "again q3", "again"],
        _ => ["more q1", "more q2", "more q3", "more"],
    };
    let quarter = (u64::from(cell.copied) * 4).div_ceil(pages.max(1)).clamp(1, 4);
    by_share.get(quarter as usize - 1).copied().unwrap_or("c")
}

/// Addresses and counts, for who points at it.
fn told(strip: &PageStrip, block: &Block, page_size: u64) -> String {
    let first = (strip.first_page + block.place as u64 * strip.cell_pages).max(strip.from_page);
    let sum = &block.sum;
    let mut text = format!(
        "{:#x}, {}: {} copied",
        first * page_size,
        if block.pages == 1 { "1 page".to_owned() } else { format!("{} pages", thousands(block.pages)) },
        thousands(sum.copied.into()),
    );
    if sum.again > 0 {
        text.push_str(&format!(", {} of them up to {} times", thousands(sum.again.into()), sum.most));
    }
    if sum.replaced > 0 {
        text.push_str(&format!(", {} replaced", thousands(sum.replaced.into())));
    }
    text
}
