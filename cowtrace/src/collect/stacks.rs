//! What was counted by user stack, with the faults that were still open at the end.

use std::sync::Arc;

use cowtrace_abi::{EPOCH_UNKNOWN, Kind, ProcSlot, StackKey, TaskSlot, UserStack, taking};

use super::record::KernelClock;
use crate::probe::{ProbeError, StackMaps};

/// Copies of one kind that one process made from one stack.
pub(super) struct Copies {
    /// Which process, program, kind, and time between two forks.
    pub(super) key: StackKey,
    /// How many.
    pub(super) pages: u64,
    /// When the first was at the latest, monotonic ns.
    pub(super) at_ns: u64,
    /// The stack.
    pub(super) stack: Arc<UserStack>,
}

/// A living thread's last fault, which turned out to be a copy.
pub(super) struct PendingStack {
    /// The thread's slot.
    index: u32,
    /// Whether its stack was taken.
    taken: bool,
    /// What it counts for; without the stack's hash.
    key: StackKey,
}

impl PendingStack {
    /// `None` if this kind is not counted by stack.
    pub(super) fn of(index: u32, task: &TaskSlot, process: &ProcSlot, kind: Kind) -> Option<PendingStack> {
        let execs = u32::try_from(process.execs).unwrap_or(u32::MAX);
        let epoch = u16::try_from(process.epoch).unwrap_or(EPOCH_UNKNOWN);
        let key = StackKey { id: process.id, hash: 0, execs, kind: kind as u16, epoch };
        kind.replaces_a_page().then_some(PendingStack { index, taken: task.stack == taking::DONE, key })
    }
}

/// All counts, and how many pending ones have no stack; without maps, stacks were not asked for.
pub(super) fn counted(
    maps: Option<&StackMaps>,
    pending: &[PendingStack],
    clock: &KernelClock,
) -> Result<(Option<Vec<Copies>>, u64), ProbeError> {
    let Some(maps) = maps else { return Ok((None, 0)) };
    let counted = maps.counted()?.into_iter();
    let mut copies: Vec<Copies> = counted
        .map(|counted| Copies {
            key: counted.key,
            pages: counted.count.count,
            at_ns: clock.range(counted.count.first_jiffies).1,
            stack: counted.stack,
        })
        .collect();
    let mut lost = 0;
    for open in pending {
        if !open.taken {
            lost += 1;
            continue;
        }
        let taken = maps.taken(open.index)?;
        let key = StackKey { hash: taken.hash, ..open.key };
        // Its mappings are the present ones.
        copies.push(Copies { key, pages: 1, at_ns: u64::MAX, stack: Arc::new(taken.stack) });
    }
    Ok((Some(copies), lost))
}
