//! What `004_7f30b1e22c4c5037.txt` says of sizes: VSZ, RSS, overcommit.

mod lean_fork;
mod overcommit;
mod vsz_rss;

use super::experiment::Experiment;

const SOURCE: &str = "004_7f30b1e22c4c5037.txt";

/// In the order in which they are run.
pub(super) fn experiments() -> impl Iterator<Item = &'static Experiment> {
    [&vsz_rss::EXPERIMENT, &overcommit::EXPERIMENT, &lean_fork::EXPERIMENT].into_iter()
}
