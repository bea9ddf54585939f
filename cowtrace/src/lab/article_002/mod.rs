//! What `002_db230c36f2947bec.txt` measures: fork time, RSS, a global array.

mod sizes;
mod timing;

use super::experiment::Experiment;

const SOURCE: &str = "002_db230c36f2947bec.txt";

/// In the order in which they are run.
pub(super) fn experiments() -> impl Iterator<Item = &'static Experiment> {
    timing::EXPERIMENTS.iter().chain(sizes::EXPERIMENTS.iter())
}
