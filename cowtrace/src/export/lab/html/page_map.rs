//! The pages of a mapping as cells, one block for each process and checkpoint.

use maud::{Markup, html};

use super::super::{
    facts::{Seen, seen},
    page_map::{Run, as_runs, described, left_out_sentence, legend, named, shown},
};
use crate::lab::report::{ExperimentReport, PageMap};

/// Up to so many pages, each is a cell with a letter; above, pages that look alike are one bar, or, where this
/// would make many bars, each is a small cell.
const CELLS: usize = 256;

pub(super) fn page_maps(experiment: &ExperimentReport) -> Markup {
    let (maps, left_out) = shown(&seen(experiment));
    html! {
        @if !maps.is_empty() {
            h3 { "Page by page" }
            (blocks(&maps))
            @if let Some(text) = left_out_sentence(left_out) { p class="quiet" { (text) } }
        }
    }
}

fn blocks(maps: &[Seen<'_>]) -> Markup {
    let (states, faults) = legend(maps);
    html! {
        p class="key" {
            @for (letter, name) in states { span { i class={ "cell " (class(letter)) } {} " " (name) } }
            @for (letter, name) in &faults { span { i class="cell hit" { (letter) } " " (name) } }
        }
        @if !faults.is_empty() {
            p class="quiet" { "A letter is the page's last fault since the checkpoint before." }
        }
        div class="maps" { @for entry in maps {
            @if let Some(map) = &entry.process.pages { (block(entry, map)) }
        } }
    }
}

fn block(entry: &Seen<'_>, map: &PageMap) -> Markup {
    html! { div class="map" {
        p { b { (entry.process.role) } ", " (entry.checkpoint.name) }
        div class={ "cells" (if map.state.len() > CELLS { " small" } else { "" }) } role="img"
            aria-label=(described(map)) {
            @if let Some(runs) = as_runs(map, CELLS) {
                @for run in runs { (bar(run)) }
            } @else {
                @for (state, fault) in map.state.chars().zip(map.faulted.chars()) { (cell(state, fault)) }
            }
        }
    } }
}

fn bar(run: Run) -> Markup {
    let pages = format!("pages {} to {}: {}", run.first, run.first + run.pages - 1, named(run));
    html! {
        span class={ "bar " (class(run.state)) (hit(run.fault)) } style={ "flex-grow:" (run.pages) } title=(pages) {
            (run.pages) @if run.fault != '.' { " " (run.fault) }
        }
    }
}

fn cell(state: char, fault: char) -> Markup {
    html! { i class={ "cell " (class(state)) (hit(fault)) } { @if fault != '.' { (fault) } } }
}

fn hit(letter: char) -> &'static str {
    if letter == '.' { "" } else { " hit" }
}

fn class(state: char) -> &'static str {
    match state {
        'p' => "private",
        's' => "shared",
        _ => "none",
    }
}
