//! What the sources leave out: other kinds of pages, and real servers.

mod exit;
mod hugetlb;
mod installed;
mod ksm;
mod pinned;
mod python;
mod redis;

use super::{experiment::Experiment, size::kb};

const SOURCE: &str = "beyond the sources";

/// In the order in which they are run.
pub(super) fn experiments() -> impl Iterator<Item = &'static Experiment> {
    let pages = [&hugetlb::EXPERIMENT, &ksm::EXPERIMENT, &pinned::EXPERIMENT, &exit::EXPERIMENT];
    pages.into_iter().chain(python::EXPERIMENTS.iter()).chain(redis::EXPERIMENTS.iter())
}
