//! Forgetting what has ended, so that the memory of a session that lasts depends on who lives.

use std::collections::HashSet;

use super::{Collector, Settled};

/// For how long at least what has ended is kept, ns: faults of a process may be told a tick later than its end.
pub(super) const KEPT_NS: u64 = 500_000_000;

/// What has ended and was handed over by a glance.
#[derive(Clone, Debug, Default)]
pub(super) struct Doomed {
    /// Since [`Doomed::since_ns`].
    young: Ended,
    /// Before that.
    old: Ended,
    /// Monotonic ns.
    since_ns: u64,
}

/// Session-wide identities: of processes, and of the children of forks.
#[derive(Clone, Debug, Default)]
struct Ended {
    processes: Vec<u64>,
    forks: Vec<u64>,
}

impl Collector {
    /// Remembers these, and drops what has been remembered for long enough.
    pub(super) fn forget(&mut self, settled: &Settled, now_ns: u64) {
        let process = |&index: &usize| self.processes[index].slot.id;
        let fork = |&index: &usize| self.forks[index].child_id;
        let doomed = &mut self.doomed;
        doomed.young.processes.extend(settled.processes.iter().map(process));
        doomed.young.forks.extend(settled.forks.iter().map(fork));
        if now_ns < doomed.since_ns + KEPT_NS {
            return;
        }
        doomed.since_ns = now_ns;
        let ended = std::mem::replace(&mut doomed.old, std::mem::take(&mut doomed.young));
        if !ended.forks.is_empty() {
            self.drop_forks(&ended.forks.into_iter().collect());
        }
        let parents = self.parents_in_need();
        let (kept, gone): (Vec<u64>, Vec<u64>) =
            ended.processes.into_iter().partition(|id| parents.contains(id));
        if !gone.is_empty() {
            self.drop_processes(&gone.into_iter().collect());
        }
        self.doomed.old.processes.extend(kept);
    }

    /// The parents of forks in flight: what such a fork has cost is told by both sides, and the parent may end first.
    pub(super) fn parents_in_need(&self) -> HashSet<u64> {
        self.open_forks.keys().filter_map(|&child| self.processes.parent_id(child)).collect()
    }

    /// Drops the forks that made these processes.
    pub(super) fn drop_forks(&mut self, gone: &HashSet<u64>) {
        let places = places(self.forks.iter().map(|fork| !gone.contains(&fork.child_id)));
        self.forks.retain(|fork| !gone.contains(&fork.child_id));
        self.open_forks.retain(|_, index| moved(&places, index));
        self.move_forks(&places.iter().enumerate().filter_map(|(from, to)| Some((from, (*to)?))).collect());
        self.settled.forks.retain_mut(|index| moved(&places, index));
        self.move_unmeasured(|index| moved(&places, index));
    }

    /// Drops these processes.
    pub(super) fn drop_processes(&mut self, gone: &HashSet<u64>) {
        let places = self.processes.drop_all(gone);
        self.by_pid.retain(|_, index| moved(&places, index));
        self.ended.retain_mut(|index| moved(&places, index));
        self.settled.processes.retain_mut(|index| moved(&places, index));
        self.held_back.retain(|id, _| !gone.contains(id));
    }
}

/// Where each one goes when only some are kept; `None` for the others.
pub(super) fn places(kept: impl Iterator<Item = bool>) -> Vec<Option<usize>> {
    let mut next = 0;
    let place = |kept: bool| {
        kept.then(|| {
            next += 1;
            next - 1
        })
    };
    kept.map(place).collect()
}

/// Moves an index to its new place; false if there is none.
pub(super) fn moved(places: &[Option<usize>], index: &mut usize) -> bool {
    match places.get(*index).copied().flatten() {
        Some(place) => {
            *index = place;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use cowtrace_abi::{COMM_LEN, Exit, Fork, KINDS, ProcSlot, tag};

    use super::*;
    use crate::{
        collect::record::Record,
        model::{AddressSpace, KnownKinds},
    };

    const SHELL: u64 = 1;

    fn process(id: u64, parent: u64, end_ns: u64) -> ProcSlot {
        ProcSlot {
            id,
            forked_from: parent,
            tgid: id as u32 + 100,
            start_ns: id,
            end_ns,
            ..ProcSlot::default()
        }
    }

    fn fork(collector: &mut Collector, id: u64, parent: u64) {
        let record = Fork {
            tag: tag::FORK,
            at_ns: id,
            id,
            forked_from: parent,
            clone_flags: 0,
            clone_ns: 0,
            page_table_bytes: 0,
            parent_counts: [0; KINDS],
            parent_epoch: 0,
            tgid: id as u32 + 100,
            ppid: parent as u32 + 100,
            parent_tgid: parent as u32 + 100,
            ns_tgid: 0,
            comm: [0; COMM_LEN],
        };
        collector.push(Record::Fork(Box::new(record)));
    }

    fn exit(collector: &mut Collector, id: u64, parent: u64) {
        let process = process(id, parent, id + 1);
        let record = Exit { tag: tag::EXIT, process, parent_counts: [0; KINDS], parent_epoch: 0 };
        collector.push(Record::Exit(Box::new(record)));
    }

    fn collector() -> Collector {
        let mut collector = Collector::new(0, KnownKinds::all_but(&[]), false);
        collector.insert(process(SHELL, 0, 0), Vec::new(), AddressSpace::new());
        collector
    }

    /// How many processes and forks are handed over.
    fn glance(collector: &mut Collector) -> (usize, usize) {
        let (processes, forks, settled) = collector.current();
        let now_ns = collector.doomed.since_ns + KEPT_NS;
        collector.forget(&settled, now_ns);
        (processes.len(), forks.len())
    }

    /// Ids of the processes, and children of the forks, that are kept.
    fn kept(collector: &Collector) -> (Vec<u64>, Vec<u64>) {
        for (index, process) in collector.processes.iter().enumerate() {
            assert_eq!(collector.processes.place(process.slot.id), Some(index));
        }
        for (child, &index) in &collector.open_forks {
            assert_eq!(collector.forks[index].child_id, *child);
        }
        (
            collector.processes.iter().map(|p| p.slot.id).collect(),
            collector.forks.iter().map(|f| f.child_id).collect(),
        )
    }

    #[test]
    fn what_has_ended_is_handed_over_once_and_gone_one_glance_later() {
        let mut collector = collector();
        for id in [2, 3, 4] {
            fork(&mut collector, id, SHELL);
        }
        exit(&mut collector, 3, SHELL);
        collector.digest(u64::MAX);
        assert_eq!(glance(&mut collector), (4, 3));
        assert_eq!(kept(&collector), (vec![1, 2, 3, 4], vec![2, 3, 4]));
        assert_eq!(glance(&mut collector), (3, 2));
        assert_eq!(kept(&collector), (vec![1, 2, 4], vec![2, 4]));
        exit(&mut collector, 4, SHELL);
        collector.digest(u64::MAX);
        assert_eq!(glance(&mut collector), (3, 2));
    }

    #[test]
    fn a_parent_is_kept_while_its_fork_is_in_flight() {
        let mut collector = collector();
        fork(&mut collector, 2, SHELL);
        fork(&mut collector, 3, 2);
        exit(&mut collector, 2, SHELL);
        collector.digest(u64::MAX);
        for _ in 0..3 {
            glance(&mut collector);
        }
        assert_eq!(kept(&collector), (vec![1, 2, 3], vec![3]));
        exit(&mut collector, 3, 2);
        collector.digest(u64::MAX);
        for _ in 0..3 {
            glance(&mut collector);
        }
        assert_eq!(kept(&collector), (vec![1], vec![]));
    }
}
