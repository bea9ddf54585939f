//! Counts by page: kept if they were asked for, and put into the report with what explains them.

use std::{cmp::Reverse, collections::HashMap};

use cowtrace_abi::Kind;

use super::{Collector, ProcessState};
use crate::{
    kernel::{hugetlb_size, page_size},
    model::{Before, MOST_MAPPED, PageCounts, Process, Sharing, Summary},
};

impl Collector {
    /// Counts copies page by page from here on, for so many pages at most.
    pub(in crate::collect) fn count_pages(&mut self, max_pages: u64) {
        self.pages = Some(PageCounts::new(max_pages, hugetlb_size() / page_size()));
    }

    /// Adds what is known of pages to the processes of the report, which are in the order of the collector's.
    pub(super) fn add_pages(&self, reported: &mut [Process]) {
        let Some(counts) = &self.pages else { return };
        let forks = self.fork_times();
        let mut order: Vec<usize> = (0..self.processes.len().min(reported.len())).collect();
        // The heaviest first: they have what the bounded lists have room for.
        order.sort_by_key(|&index| Reverse(counts.of(self.processes[index].slot.id).map(|map| map.copies())));
        let mut summary = Summary::new(page_size());
        for (place, index) in order.into_iter().enumerate() {
            let (process, reported) = (&self.processes[index], &mut reported[index]);
            reported.pages = Some(match counts.of(process.slot.id) {
                Some(map) => {
                    let sharing = self.sharing(process, &forks);
                    summary.of(map, &reported.regions, &sharing, place < MOST_MAPPED)
                }
                None => Default::default(),
            });
        }
    }

    /// When each process forked, by its identity.
    fn fork_times(&self) -> HashMap<u64, Vec<u64>> {
        let mut times: HashMap<u64, Vec<u64>> = HashMap::new();
        for state in self.forks.iter().filter(|state| state.copies_the_memory()) {
            if let Some(child) = self.processes.of(state.child_id) {
                times.entry(child.slot.forked_from).or_default().push(child.slot.start_ns);
            }
        }
        for times in times.values_mut() {
            times.sort_unstable();
        }
        times
    }

    fn sharing(&self, process: &ProcessState, forks: &HashMap<u64, Vec<u64>>) -> Sharing {
        let before = match (process.slot.forked_from, self.command.is_empty()) {
            (0, true) => Before::Unknown,
            // The command: what it runs on is its own since its exec.
            (0, false) => Before::Nothing,
            _ => Before::Creation,
        };
        Sharing {
            forks_ns: forks.get(&process.slot.id).cloned().unwrap_or_default(),
            past: process.past_forks.clone(),
            before,
            exec: process.slot.execs > u64::from(before == Before::Nothing),
            counts_raced: !self.known.has(Kind::Raced),
        }
    }
}
