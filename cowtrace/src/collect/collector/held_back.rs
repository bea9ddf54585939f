//! What the slots of living threads hold back: faults whose window is not full, and a last fault that is not counted yet.

use cowtrace_abi::{Kind, Pages, ProcSlot, TaskSlot, WINDOW_PAGES, flag, state};

use super::Collector;
use crate::{
    collect::record::{KernelClock, Record},
    model::{Counts, PageBatch},
};

impl Collector {
    /// Takes what the slot of a living thread of a process holds back; `last` is what its last fault was, if that is not counted yet.
    pub(in crate::collect) fn take_windows(
        &mut self,
        process: &ProcSlot,
        task: &TaskSlot,
        last: Option<Kind>,
        clock: &KernelClock,
    ) {
        let id = process.id;
        for window in task.windows.iter().filter(|window| window.count != 0) {
            let pages = Pages { tag: cowtrace_abi::tag::PAGES, id, window: *window, span: 0 };
            match clock.batch(&pages) {
                Some(batch) => self.push(Record::Pages(batch)),
                None => self.damaged += 1,
            }
        }
        let Some(kind) = last else { return };
        self.held_back.entry(id).or_default().add(kind, 1);
        let page = task.address / self.sizes.page;
        self.push(Record::Pages(PageBatch {
            id,
            kind,
            window: page / WINDOW_PAGES,
            epoch: process.epoch as u16,
            bitmap: 1 << (page % WINDOW_PAGES),
            faults: 1,
            span: 0,
            first_ns: 0,
            last_ns: u64::MAX,
            vma: None,
            remote: task.flags & flag::REMOTE != 0,
            unplaced: task.state == state::COPIED && task.is_unplaced(),
        }));
    }

    /// Counts of a process, final ones if it has ended.
    pub(in crate::collect) fn settled_counts(&self, pid: u32, live: Option<Counts>) -> Counts {
        let Some(process) = self.processes.iter().rev().find(|p| p.slot.tgid == pid) else {
            return live.unwrap_or_default();
        };
        let mut counts = live.unwrap_or(Counts(process.slot.counts));
        counts.merge(&self.held_back.get(&process.slot.id).copied().unwrap_or_default());
        counts
    }
}
