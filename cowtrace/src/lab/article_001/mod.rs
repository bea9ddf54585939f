//! What `001_d28853e43385f477.txt` says of fork, snapshots, mappings and programs.

mod mappings;
mod portions;
mod programs;
mod shared_buffer;
mod snapshots;
mod writes;

use super::experiment::Experiment;

const SOURCE: &str = "001_d28853e43385f477.txt";

/// In the order in which they are run.
pub(super) fn experiments() -> impl Iterator<Item = &'static Experiment> {
    writes::EXPERIMENTS
        .iter()
        .chain(snapshots::EXPERIMENTS.iter())
        .chain(mappings::EXPERIMENTS.iter())
        .chain(programs::EXPERIMENTS.iter())
}
