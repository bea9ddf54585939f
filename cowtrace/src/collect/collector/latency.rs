//! How long copies took, by process and by fork.

use cowtrace_abi::moment;

use super::{Collector, ForkState, ProcessState};
use crate::{
    collect::record::TimesSoFar,
    model::{Fork, TimeSums},
};

/// Times of both sides of a fork.
#[derive(Clone, Default)]
pub(super) struct ForkTimes {
    parent_at_fork: Option<TimeSums>,
    parent_at_end: Option<TimeSums>,
    child_at_end: Option<TimeSums>,
}

impl Collector {
    pub(super) fn take_times(&mut self, record: TimesSoFar) {
        let TimesSoFar { id, moment, sums, .. } = record;
        // They come before the record that ends the fork.
        let open = self.open_forks.get(&id).and_then(|&index| self.forks.get_mut(index));
        if let Some(fork) = open {
            match moment {
                moment::FORKED => fork.times.parent_at_fork = Some(sums.clone()),
                moment::UNSHARED => fork.times.parent_at_end = Some(sums.clone()),
                _ => fork.times.child_at_end = Some(sums.clone()),
            }
        }
        if moment == moment::EXIT {
            self.set_times(id, sums);
        }
    }

    /// Takes the times of a process that lives, or has ended.
    pub(super) fn set_times(&mut self, id: u64, sums: TimeSums) {
        if let Some(process) = self.processes.of_mut(id) {
            process.times = Some(sums);
        }
    }

    /// Tells what is known of a fork's times.
    pub(super) fn bill_times(&self, state: &ForkState, fork: &mut Fork) {
        let now = |process: Option<&ProcessState>| process.and_then(|process| process.times.clone());
        let (child, parent) = (self.processes.of(state.child_id), self.processes.parent(state.child_id));
        let by_child = state.times.child_at_end.clone().or_else(|| now(child));
        let by_parent = state.times.parent_at_end.clone().or_else(|| now(parent));
        fork.child_cow_ns = by_child.map(|times| times.summary());
        fork.parent_cow_ns = by_parent
            .zip(state.times.parent_at_fork.as_ref())
            .map(|(times, before)| times.since(before).summary());
    }
}
