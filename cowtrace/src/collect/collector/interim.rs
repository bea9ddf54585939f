//! A part of what was gathered, for a report while the session goes on.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::{Collector, Fold, ForkState};
use crate::model::Numbers;

/// What has ended, and will not change any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    pub(super) processes: Vec<usize>,
    pub(super) forks: Vec<usize>,
}

/// A copy of what may have changed.
pub(in crate::collect) struct Interim {
    /// To be reported from; what it takes in, the original takes in later.
    pub(in crate::collect) copy: Collector,
    /// Of those that are wanted; the copy has their parents behind them.
    pub(in crate::collect) numbers: Numbers,
    /// The place in the original of each fork.
    pub(in crate::collect) forks: Vec<usize>,
}

impl Collector {
    /// Copies what lives or has ended since the last call, or everything.
    pub(in crate::collect) fn interim(&mut self, everything: bool) -> Interim {
        let settled = std::mem::take(&mut self.settled);
        self.hand_over(&settled, everything);
        let (processes, forks): (BTreeSet<usize>, BTreeSet<usize>) = if everything {
            ((0..self.processes.len()).collect(), (0..self.forks.len()).collect())
        } else {
            let open = self.open_forks.values().copied();
            (self.processes.living().chain(settled.processes).collect(), open.chain(settled.forks).collect())
        };
        // A process is named by its parent, and a fork's costs are both sides'.
        let parent = |index: &usize| self.processes.place(self.processes[*index].slot.forked_from);
        let child = |index: &usize| self.processes.place(self.forks[*index].child_id);
        let family: BTreeSet<usize> =
            processes.iter().copied().chain(forks.iter().filter_map(child)).collect();
        let parents = family.iter().filter_map(parent);
        let others: BTreeSet<usize> = family.iter().copied().chain(parents).collect();
        let places = processes.iter().chain(others.difference(&processes));
        let mut copy = Collector {
            start_ns: self.start_ns,
            command: self.command.clone(),
            processes: places.map(|&index| self.processes[index].clone()).collect(),
            next_number: self.next_number,
            by_pid: HashMap::new(),
            forks: forks.iter().map(|&index| self.forks[index].clone()).collect(),
            open_forks: HashMap::new(),
            crowded: HashSet::new(),
            next_look_ns: u64::MAX,
            // What waits is younger than the snapshot.
            records: VecDeque::new(),
            mappings: self.mappings.clone(),
            ended: Vec::new(),
            settled: Settled::default(),
            lost_mappings: self.lost_mappings,
            unresolved: self.unresolved,
            damaged: self.damaged,
            known: self.known,
            sizes: self.sizes,
            page_log: None,
            code_kept: false,
            // There is no report of them before the end.
            pages: None,
            events: None,
            held_back: self.held_back.clone(),
            foresight: None,
            hits: Vec::new(),
            doomed: Default::default(),
            fold: Fold::default(),
        };
        let moved: HashMap<usize, usize> = forks.iter().enumerate().map(|(to, &from)| (from, to)).collect();
        for (index, process) in copy.processes.iter_mut().enumerate() {
            process.forks = process.forks.moved(&moved);
            if process.slot.end_ns == 0 {
                copy.by_pid.insert(process.slot.tgid, index);
            }
        }
        let mut numbers = copy.numbers();
        numbers.processes.truncate(processes.len());
        Interim { copy, numbers, forks: forks.into_iter().collect() }
    }

    /// Who the processes and forks are.
    pub(in crate::collect) fn numbers(&self) -> Numbers {
        let of_child = |fork: &ForkState| Some(self.processes.of(fork.child_id)?.number);
        Numbers {
            processes: self.processes.iter().map(|process| process.number).collect(),
            // A fork is never without the process that it made.
            forks: self.forks.iter().filter_map(of_child).collect(),
        }
    }

    /// Whether a process has begun and not ended, as far as records tell. The slot of any other may be in other hands.
    pub(in crate::collect) fn lives(&self, id: u64) -> bool {
        self.processes.of(id).is_some_and(|process| process.slot.end_ns == 0)
    }
}
