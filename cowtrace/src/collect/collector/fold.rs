//! Folding: of the processes and forks that have ended, those that copied least become sums by name, so that the memory of
//! a session that lasts is bounded and its counts stay exact.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use cowtrace_abi::{COMM_LEN, Kind};

use super::{Collector, ForkState, OwnForks, ProcessState, Settled, forget::KEPT_NS, report::text};
use crate::model::{
    AddressSpace, Counts, Folded, FoldedForks, ForkEnd, ForkKind, OTHER_NAMES, PastForks, RegionCounts,
    TimeSums,
};

/// Names that have sums of their own. What comes later is summed up as [`OTHER_NAMES`].
const MOST_NAMES: usize = 1_000;

/// So many that have ended are worth a snapshot in any case.
const LEAST_TO_WRITE: usize = 256;

/// What has been folded, and what may be.
#[derive(Default)]
pub(super) struct Fold {
    /// Ended processes that are kept one by one; all if not given.
    most: Option<usize>,
    /// Processes that have ended, and are kept.
    pub(super) ended: usize,
    /// So many of them make it worth to look for some to be folded.
    next: usize,
    names: HashMap<[u8; COMM_LEN], Sums>,
    others: Option<Box<Sums>>,
    /// What is told before the end must have been written down first.
    written: Option<Written>,
    /// Folded processes whose stacks are counted, with where their code was.
    with_stacks: HashMap<u64, ProcessState>,
}

/// What a recording has.
#[derive(Default)]
struct Written {
    /// Processes that have ended and were handed over, which may not have been written yet.
    handed_over: HashSet<u64>,
}

/// Sums over the processes of one name.
#[derive(Clone, Default)]
struct Sums {
    processes: u64,
    counts: Counts,
    anon_pages: u64,
    times: Option<TimeSums>,
    to_exec: u64,
    to_exit: u64,
    vforks: u64,
    parent_copied_bytes: u64,
    child_copied_bytes: u64,
}

/// A process that may be folded.
struct Candidate {
    /// Pages that it and, because of its fork, its parent have replaced.
    weight: u64,
    end_ns: u64,
    index: usize,
}

impl Collector {
    /// Keeps no more than about so many of the processes that have ended one by one.
    pub(in crate::collect) fn keep_ended(&mut self, most: usize) {
        self.fold.most = Some(most);
        self.fold.next = most.saturating_mul(2);
    }

    /// Whether so many have ended that some of them are to be folded.
    pub(in crate::collect) fn is_crowded(&self) -> bool {
        self.fold.most.is_some() && self.fold.ended > self.fold.next
    }

    /// Folds those that copied least. `with_stacks`: whose stacks have been counted.
    pub(in crate::collect) fn fold(&mut self, now_ns: u64, with_stacks: &HashSet<u64>) {
        let Some(most) = self.fold.most else { return };
        let mut candidates = self.candidates(now_ns);
        let surplus = self.fold.ended.saturating_sub(most).min(candidates.len());
        if let Some(last) = surplus.checked_sub(1) {
            candidates.select_nth_unstable_by_key(last, |candidate| (candidate.weight, candidate.end_ns));
            candidates.truncate(surplus);
            let gone: HashSet<u64> =
                candidates.iter().map(|candidate| self.processes[candidate.index].slot.id).collect();
            self.sum_up_forks(&gone);
            for candidate in &candidates {
                self.sum_up(candidate.index, with_stacks);
            }
            self.drop_forks(&gone);
            self.drop_processes(&gone);
        }
        self.fold.ended -= surplus;
        // Each look at all of them is paid for by as many that have ended since.
        self.fold.next = most.saturating_mul(2).max(self.fold.ended.saturating_add(most));
    }

    /// All that nothing is expected of any more.
    fn candidates(&mut self, now_ns: u64) -> Vec<Candidate> {
        let parents = self.parents_in_need();
        let unwritten: HashSet<usize> = match self.fold.written {
            Some(_) => self.settled.processes.iter().copied().collect(),
            None => HashSet::new(),
        };
        let by_child: HashMap<u64, &ForkState> =
            self.forks.iter().map(|fork| (fork.child_id, fork)).collect();
        let (mut ended, mut candidates) = (0, Vec::new());
        for (index, process) in self.processes.iter().enumerate() {
            let (id, end_ns) = (process.slot.id, process.slot.end_ns);
            if end_ns == 0 {
                continue;
            }
            ended += 1;
            let is_written =
                self.fold.written.as_ref().is_none_or(|written| !written.handed_over.contains(&id))
                    && !unwritten.contains(&index);
            let is_needed = parents.contains(&id) || self.open_forks.contains_key(&id);
            if is_written && !is_needed && end_ns.saturating_add(KEPT_NS) <= now_ns {
                let by_parent = by_child.get(&id).map_or(0, |fork| fork.pages_of_parent());
                let weight = replaced(&process.slot.counts) + by_parent;
                candidates.push(Candidate { weight, end_ns, index });
            }
        }
        self.fold.ended = ended;
        candidates
    }

    /// Adds the forks that made these processes. Those that they made stay, and must do without them.
    fn sum_up_forks(&mut self, gone: &HashSet<u64>) {
        for place in 0..self.forks.len() {
            let state = &self.forks[place];
            let Some(child) = self.processes.of(state.child_id) else { continue };
            if !gone.contains(&state.child_id) {
                let parent = child.slot.forked_from;
                if gone.contains(&parent) {
                    self.settle_parent(place, parent);
                }
                continue;
            }
            let (fork, copies_the_memory) = (self.fork_sums(state), state.copies_the_memory());
            let ProcessState { comm, slot, .. } = child;
            let (comm, start_ns, parent) = (*comm, slot.start_ns, slot.forked_from);
            let sums = self.fold.of_name(comm);
            match (fork.kind, fork.ended_by) {
                (ForkKind::Vfork, _) => sums.vforks += 1,
                (ForkKind::Fork, ForkEnd::Exec) => sums.to_exec += 1,
                (ForkKind::Fork, _) => sums.to_exit += 1,
            }
            sums.parent_copied_bytes += fork.parent_copied_bytes.unwrap_or(0);
            sums.child_copied_bytes += fork.child_copied_bytes.unwrap_or(0);
            let parent = self.processes.of_mut(parent).filter(|_| self.pages.is_some() && copies_the_memory);
            if let Some(parent) = parent {
                parent.past_forks.add(start_ns);
            }
        }
    }

    /// Adds a process, and keeps of it what its stacks need.
    fn sum_up(&mut self, index: usize, with_stacks: &HashSet<u64>) {
        let process = &self.processes[index];
        let (id, comm, anon_pages) = (process.slot.id, process.comm, process.slot.anon_pages);
        let (counts, times) = (self.counts(process), process.times.clone());
        let sums = self.fold.of_name(comm);
        sums.processes += 1;
        sums.counts.merge(&counts);
        sums.anon_pages += anon_pages;
        if let Some(times) = times {
            sums.times.get_or_insert_default().merge(&times);
        }
        if let Some(pages) = &mut self.pages {
            pages.forget(id);
        }
        if with_stacks.contains(&id) {
            let remains = self.processes[index].without_memory();
            self.fold.with_stacks.insert(id, remains);
        }
    }

    /// The sums by name, by descending copies.
    pub(super) fn folded(&self) -> Vec<Folded> {
        let names = self.fold.names.iter().map(|(comm, sums)| (text(comm), sums));
        let others = self.fold.others.iter().map(|sums| (OTHER_NAMES.to_owned(), &**sums));
        let mut folded: Vec<(u64, Folded)> = names
            .chain(others)
            .map(|(comm, sums)| (replaced(&sums.counts.0), self.folded_of(comm, sums)))
            .collect();
        folded.sort_by(|(a, one), (b, other)| (Reverse(a), &one.comm).cmp(&(Reverse(b), &other.comm)));
        folded.into_iter().map(|(_, folded)| folded).collect()
    }

    fn folded_of(&self, comm: String, sums: &Sums) -> Folded {
        let figures = self.figures(&sums.counts);
        let known = |bytes: u64| self.known.has(Kind::Copy).then_some(bytes);
        Folded {
            comm,
            processes: sums.processes,
            faults: sums.counts.to_faults(&self.known),
            wpcopy: figures.wpcopy,
            raced: figures.raced,
            thp_splits: figures.thp_splits,
            copied_bytes: figures.copied_bytes,
            anon_bytes: sums.anon_pages * self.sizes.page,
            cow_ns: sums.times.as_ref().map(TimeSums::summary),
            forks: FoldedForks {
                to_exec: sums.to_exec,
                to_exit: sums.to_exit,
                vforks: sums.vforks,
                parent_copied_bytes: known(sums.parent_copied_bytes),
                child_copied_bytes: known(sums.child_copied_bytes),
            },
        }
    }

    /// A process that is kept, or one whose stacks are.
    pub(super) fn process_of(&self, id: u64) -> Option<&ProcessState> {
        self.processes.of(id).or_else(|| self.fold.with_stacks.get(&id))
    }

    /// Whether so many have ended since the last snapshot that the next one is not to wait: they stay until they are written.
    pub(in crate::collect) fn needs_writing(&self) -> bool {
        let enough = |most: usize| (most / 2).max(LEAST_TO_WRITE);
        self.fold.most.is_some_and(|most| self.settled.processes.len() >= enough(most))
    }

    /// What has ended is handed over to be written down. That the call after it does not ask for `everything` tells that
    /// what was handed over before has been written.
    pub(super) fn hand_over(&mut self, settled: &Settled, everything: bool) {
        let ids = settled.processes.iter().filter_map(|&index| Some(self.processes.at(index)?.slot.id));
        let written = self.fold.written.get_or_insert_default();
        if !everything {
            written.handed_over.clear();
        }
        written.handed_over.extend(ids);
    }
}

impl ProcessState {
    /// Who it was and what code it ran.
    fn without_memory(&self) -> ProcessState {
        ProcessState {
            number: self.number,
            slot: self.slot,
            comm: self.comm,
            cmdline: Vec::new(),
            space: AddressSpace::new(),
            code: self.code.clone(),
            regions: RegionCounts::default(),
            ns_pid: self.ns_pid,
            parent_pid: self.parent_pid,
            forks: OwnForks::default(),
            past_forks: PastForks::default(),
            times: None,
        }
    }
}

impl Fold {
    fn of_name(&mut self, comm: [u8; COMM_LEN]) -> &mut Sums {
        if self.names.len() >= MOST_NAMES && !self.names.contains_key(&comm) {
            return self.others.get_or_insert_default();
        }
        self.names.entry(comm).or_default()
    }
}

/// Pages that others came in the place of.
fn replaced(counts: &[u64; cowtrace_abi::KINDS]) -> u64 {
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.replaces_a_page());
    kinds.map(|kind| counts[kind as usize]).sum()
}
