//! What is asked and answered in `003_7a15ca8c371e8a75.txt`: which pages a fork shares, and who copies.

mod family;
mod segments;

use super::experiment::Experiment;

const SOURCE: &str = "003_7a15ca8c371e8a75.txt";

/// In the order in which they are run.
pub(super) fn experiments() -> impl Iterator<Item = &'static Experiment> {
    family::EXPERIMENTS.iter().chain(segments::EXPERIMENTS.iter())
}
