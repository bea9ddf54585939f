//! Finished reports as text: one file per format. Nothing here traces, reads `/proc` or writes files.

mod diff;
#[cfg(test)]
mod diff_tests;
mod doctor;
#[cfg(test)]
mod doctor_tests;
mod folded;
#[cfg(test)]
mod foreign_tests;
mod forks;
mod human;
#[cfg(test)]
pub(crate) mod human_tests;
pub mod lab;
mod latency;
mod page;
mod pages;
mod printable;
mod siblings;
mod stacks;
mod table;
mod trace;
#[cfg(test)]
mod trace_tests;
mod verify;
#[cfg(test)]
mod verify_tests;

pub use diff::diff;
pub use doctor::doctor;
pub use folded::{flamegraph, folded};
pub use human::human;
pub use pages::page_picture;
pub use printable::{is_printable, printable};
pub use table::{bytes, duration, quote, shorten, thousands};
pub use trace::{
    trace_header, trace_json, trace_line, trace_lost_json, trace_lost_line, trace_summary, trace_summary_json,
};
pub use verify::verify;

use serde::Serialize;

/// How text for people is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Use ANSI colours.
    pub color: bool,
    /// Columns at most.
    pub width: usize,
}

/// A report as its JSON contract has it.
pub fn json(report: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(report)?;
    bytes.push(b'\n');
    Ok(bytes)
}
