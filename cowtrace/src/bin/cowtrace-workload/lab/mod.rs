//! The steps of the lab.

mod article_000;
mod article_002;
mod article_003;
mod article_004;
mod beyond;
mod mappings;
mod portions;
mod programs;
mod snapshots;
mod writes;

use core::ffi::c_int;

use crate::sys::Args;

/// Runs the step that the arguments name; `None` if they name none, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    let groups = [
        article_000::run,
        writes::run,
        snapshots::run,
        mappings::run,
        programs::run,
        article_002::run,
        article_003::run,
        article_004::run,
        beyond::run,
    ];
    groups.iter().find_map(|group| group(args))
}
