//! What the sources leave out: other kinds of pages, and real servers.

mod installed;
mod pages;
mod python;
mod redis;

use super::experiment::Experiment;

const SOURCE: &str = "beyond the sources";

/// In the order in which they are run.
pub(super) fn experiments() -> impl Iterator<Item = &'static Experiment> {
    pages::EXPERIMENTS.iter().chain(python::EXPERIMENTS.iter()).chain(redis::EXPERIMENTS.iter())
}
