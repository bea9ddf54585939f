//! Which code made the copies that a fork cost.
//!
//! The child's copies are those of its first program. The parent's are told apart by epochs: the kernel side begins another
//! one at each fork and at each end of what a fork shares, so that each fork covers some of them, whole.

use std::{cmp::Reverse, collections::HashMap, ops::Range, sync::Arc};

use cowtrace_abi::EPOCH_UNKNOWN;

use super::{Collector, epochs::Epochs, report::Sizes, stacks::Resolved};
use crate::model::{FORK_STACKS, Fork, ForkKind, ForkStack};

/// An epoch, functions from the outermost inwards, and bytes that they copied in it.
type InEpoch<'a> = (u16, &'a [Arc<str>], u64);

/// What a process copied of what forks share.
#[derive(Default)]
struct Copied<'a> {
    /// By its first program, as stacks and bytes.
    at_first: Vec<(&'a [Arc<str>], u64)>,
    /// By epoch, ascending.
    by_epoch: Vec<InEpoch<'a>>,
}

impl<'a> Copied<'a> {
    /// `None`: some of what was copied in these epochs cannot be told from what was copied after them.
    fn in_epochs(&self, epochs: Range<u16>) -> Option<&[InEpoch<'a>]> {
        let is_mixed = self.by_epoch.last().is_some_and(|(epoch, ..)| *epoch == EPOCH_UNKNOWN);
        if epochs.end == EPOCH_UNKNOWN && is_mixed {
            return None;
        }
        let begin = self.by_epoch.partition_point(|(epoch, ..)| *epoch < epochs.start);
        let end = self.by_epoch.partition_point(|(epoch, ..)| *epoch < epochs.end);
        self.by_epoch.get(begin..end)
    }
}

/// All that was copied, by [`cowtrace_abi::ProcSlot::id`].
pub(super) struct CopiedByAll<'a>(HashMap<u64, Copied<'a>>);

impl<'a> CopiedByAll<'a> {
    pub(super) fn of(resolved: &'a [Resolved], sizes: Sizes) -> CopiedByAll<'a> {
        let mut all: HashMap<u64, Copied<'a>> = HashMap::new();
        for stack in resolved {
            let Some(page_bytes) = sizes.of_shared(stack.of) else { continue };
            let copied = all.entry(stack.id).or_default();
            for &(epoch, pages) in &stack.pages {
                let bytes = pages * page_bytes;
                copied.by_epoch.push((epoch, &stack.names, bytes));
                if stack.execs == 0 {
                    copied.at_first.push((&stack.names, bytes));
                }
            }
        }
        for copied in all.values_mut() {
            copied.by_epoch.sort_by_key(|(epoch, ..)| *epoch);
        }
        CopiedByAll(all)
    }

    fn stacks(&self, epochs: Epochs, parent: Option<u64>, child: u64) -> Option<Vec<ForkStack>> {
        let mut sums: HashMap<&[Arc<str>], (u64, u64)> = HashMap::new();
        let epochs = epochs.of_stacks()?;
        if let Some(parent) = parent.and_then(|id| self.0.get(&id)) {
            for &(_, names, bytes) in parent.in_epochs(epochs)? {
                sums.entry(names).or_default().0 += bytes;
            }
        }
        for &(names, bytes) in self.0.get(&child).iter().flat_map(|child| &child.at_first) {
            sums.entry(names).or_default().1 += bytes;
        }
        let mut heaviest: Vec<_> = sums.into_iter().collect();
        heaviest.sort_by(|a, b| Reverse(a.1.0 + a.1.1).cmp(&Reverse(b.1.0 + b.1.1)).then(a.0.cmp(b.0)));
        heaviest.truncate(FORK_STACKS);
        let stack = |(names, (by_parent, by_child)): (&[Arc<str>], (u64, u64))| ForkStack {
            frames: names.to_vec(),
            parent_copied_bytes: by_parent,
            child_copied_bytes: by_child,
        };
        Some(heaviest.into_iter().map(stack).collect())
    }
}

impl Collector {
    /// Adds the stacks to forks of the report; `places`: where these are in [`Collector::forks`].
    pub(super) fn add_fork_stacks(&self, forks: &mut [Fork], places: &[usize], copied: &CopiedByAll<'_>) {
        for (fork, &place) in forks.iter_mut().zip(places) {
            let Some(state) = self.forks.get(place).filter(|_| fork.kind == ForkKind::Fork) else { continue };
            let parent = self.processes.parent_id(state.child_id);
            fork.stacks = copied.stacks(state.epochs, parent, state.child_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use cowtrace_abi::Kind;

    use super::*;
    use crate::model::StackKind;

    const PARENT: u64 = 1;
    const CHILD: u64 = 2;

    fn resolved(id: u64, execs: u32, of: Kind, name: &str, pages: &[(u16, u64)]) -> Resolved {
        let kind = StackKind::of(of).unwrap();
        Resolved { id, execs, of, kind, names: vec!["main".into(), name.into()], pages: pages.to_vec() }
    }

    /// Innermost function, pages by the parent, pages by the child.
    fn of_fork(all: &[Resolved], epochs: Epochs) -> Option<Vec<(String, u64, u64)>> {
        let page = crate::kernel::page_size();
        let stacks = CopiedByAll::of(all, Sizes::here()).stacks(epochs, Some(PARENT), CHILD)?;
        let row = |s: ForkStack| {
            (s.frames[1].to_string(), s.parent_copied_bytes / page, s.child_copied_bytes / page)
        };
        Some(stacks.into_iter().map(row).collect())
    }

    fn rows(expected: &[(&str, u64, u64)]) -> Option<Vec<(String, u64, u64)>> {
        Some(expected.iter().map(|&(name, parent, child)| (name.to_owned(), parent, child)).collect())
    }

    #[test]
    fn the_parents_epochs_and_the_childs_first_program_count() {
        let all = [
            resolved(PARENT, 0, Kind::Copy, "serve", &[(0, 1), (1, 20), (2, 300), (3, 4_000)]),
            resolved(CHILD, 0, Kind::Copy, "serve", &[(0, 5), (1, 6)]),
            resolved(CHILD, 1, Kind::Copy, "another program", &[(0, 70)]),
            resolved(CHILD, 0, Kind::Zero, "no fork's", &[(0, 80)]),
        ];
        let mut epochs = Epochs::since(1);
        assert_eq!(of_fork(&all, epochs), rows(&[("serve", 4_320, 11)]));
        epochs.end(3);
        assert_eq!(of_fork(&all, epochs), rows(&[("serve", 320, 11)]));
        // The parent exited first.
        epochs.end(0);
        assert_eq!(of_fork(&all, epochs), rows(&[("serve", 4_320, 11)]));
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_told() {
        let mixed = [resolved(PARENT, 0, Kind::Copy, "serve", &[(1, 20), (EPOCH_UNKNOWN, 300)])];
        let mut epochs = Epochs::since(1);
        assert_eq!(of_fork(&mixed, epochs), None);
        epochs.end(2);
        assert_eq!(of_fork(&mixed, epochs), rows(&[("serve", 20, 0)]));
        assert_eq!(of_fork(&mixed, Epochs::since(u64::from(EPOCH_UNKNOWN))), None);
        // Nothing was copied after the last epoch that is known.
        let unmixed = [resolved(PARENT, 0, Kind::Copy, "serve", &[(1, 20)])];
        epochs.end(u64::from(EPOCH_UNKNOWN));
        assert_eq!(of_fork(&unmixed, epochs), rows(&[("serve", 20, 0)]));
    }

    #[test]
    fn the_heaviest_stacks_are_kept() {
        let many: Vec<Resolved> = (1..=12)
            .map(|n| resolved(CHILD, 0, Kind::Copy, &format!("f{n}"), &[(0, n)]))
            .chain([resolved(CHILD, 0, Kind::Copy, "f1", &[(0, 99)])])
            .collect();
        let stacks = of_fork(&many, Epochs::since(1)).unwrap();
        assert_eq!(stacks.len(), FORK_STACKS);
        assert_eq!(stacks[..2], rows(&[("f1", 0, 100), ("f12", 0, 12)]).unwrap());
    }
}
