//! Mappings that fork treats in their own way: shared ones, files, those with advice, huge pages.

mod advice;
mod clean;
mod file;
mod huge;
mod private_file;
mod shared;

use anyhow::Context as _;

use crate::lab::{experiment::Experiment, size::kb, workload::Workload};

pub(super) static EXPERIMENTS: [Experiment; 6] = [
    shared::MAP_SHARED,
    private_file::PRIVATE_FILE,
    advice::DONTFORK,
    advice::WIPEONFORK,
    huge::THP_BYTE,
    clean::SHARED_CLEAN_CLAIM,
];

/// What the step has just reported.
fn sample(workload: &mut Workload) -> anyhow::Result<[u64; 4]> {
    workload.take_samples().pop().context("the step has reported no figures")
}
