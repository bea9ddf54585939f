//! What `002_db230c36f2947bec.txt` measures: fork time, RSS, a global array.

mod global_array;
mod rss_after_fork;
mod timing;

use super::experiment::Experiment;

const SOURCE: &str = "002_db230c36f2947bec.txt";

/// In the order in which they are run.
pub(super) fn experiments() -> impl Iterator<Item = &'static Experiment> {
    [&timing::EXPERIMENT, &rss_after_fork::EXPERIMENT, &global_array::EXPERIMENT].into_iter()
}
