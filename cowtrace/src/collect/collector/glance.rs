//! What lives and what has just ended, for a view that asks each second: nothing is copied but what is shown.

use std::collections::{BTreeSet, HashMap};

use cowtrace_abi::{Exit, Pages, ProcSlot, TaskSlot, tag};

use super::{Collector, Ending, Settled};
use crate::{
    collect::record::KernelClock,
    model::{RegionCounts, Report},
    probe::Backend,
};

/// How long after its end a process's record may still be on its way, ns.
const LATE_NS: u64 = 2_000_000_000;

/// How much of a process is wanted.
pub(in crate::collect) struct Wanted {
    /// Regions of each, those with the most copies.
    pub(in crate::collect) regions: usize,
    /// The process whose regions are all wanted.
    pub(in crate::collect) detail: Option<u32>,
}

impl Collector {
    /// A report of what lives and of what ended since the call before, which is forgotten after the next one.
    /// `tasks`: slots of threads that hold windows back, with the identities of their processes.
    pub(in crate::collect) fn glance(
        &mut self,
        ending: &Ending,
        backend: Backend,
        wanted: &Wanted,
        tasks: &[(u64, TaskSlot)],
        clock: &KernelClock,
    ) -> Report {
        self.take_counts(ending);
        let held_back = self.windows(tasks, clock);
        let (places, forks, settled) = self.current();
        let processes = places.into_iter().map(|index| {
            let process = &self.processes[index];
            let regions = if wanted.detail == Some(process.slot.tgid) { usize::MAX } else { wanted.regions };
            let counted = held_back.get(&process.slot.id).unwrap_or(&process.regions);
            self.process(process, counted, regions)
        });
        let processes = processes.collect();
        let forks = forks.into_iter().map(|index| self.fork_sums(&self.forks[index])).collect();
        let report = self.assemble(ending, backend, processes, forks);
        self.forget(&settled, ending.end_ns);
        report
    }

    /// Takes over the counts of all that live.
    fn take_counts(&mut self, ending: &Ending) {
        for slot in &ending.live {
            let Some(index) = self.processes.place(slot.id).filter(|_| self.lives(slot.id)) else { continue };
            if slot.end_ns != 0 && slot.end_ns + LATE_NS < ending.end_ns {
                // Its record found no room.
                let parent = ending.live.iter().find(|parent| parent.id == slot.forked_from);
                let (parent_counts, parent_epoch) =
                    parent.map(|parent| (parent.counts, parent.epoch)).unwrap_or_default();
                self.exit(&Exit { tag: tag::EXIT, parent_counts, parent_epoch, process: *slot });
            } else {
                self.processes[index].slot = ProcSlot { end_ns: 0, ..*slot };
            }
        }
    }

    /// Counts by region of the processes whose threads hold windows back, with these.
    fn windows(&mut self, tasks: &[(u64, TaskSlot)], clock: &KernelClock) -> HashMap<u64, RegionCounts> {
        let page_size = self.sizes.page;
        let mut counts: HashMap<u64, RegionCounts> = HashMap::new();
        for (id, task) in tasks {
            let Some(index) = self.processes.place(*id).filter(|_| self.lives(*id)) else { continue };
            let process = &mut self.processes[index];
            let regions = counts.entry(*id).or_insert_with(|| process.regions.clone());
            for window in task.windows.iter().filter(|window| window.count != 0) {
                let pages = Pages { tag: tag::PAGES, id: *id, window: *window, span: 0 };
                if let Some(batch) = clock.batch(&pages) {
                    // It will be taken in again, and counted if it has no mapping, when it is sent.
                    regions.attribute(&mut process.space, &batch, page_size, &mut self.hits);
                }
            }
        }
        counts
    }

    /// The places of what lives or ended since the call before, of processes and of forks, and of the latter alone.
    pub(super) fn current(&mut self) -> (BTreeSet<usize>, BTreeSet<usize>, Settled) {
        let settled = std::mem::take(&mut self.settled);
        let processes = self.processes.living().chain(settled.processes.iter().copied()).collect();
        let forks = self.open_forks.values().chain(&settled.forks).copied().collect();
        (processes, forks, settled)
    }
}
