//! Explains `Private_Dirty`: why each page of a family of processes became private and dirty, or ceased to
//! be.
//!
//! Two readings of smaps say *by how much* `Private_Dirty` moved; the events between them say *why*. The
//! family is played through from the first reading, event by event (`family`), and what should have moved
//! is held against what did (`regions` tells which mapping is which). Nothing is filled in: an event that
//! was missed, or seen twice, is left over as [`Row::residual_pages`]. No I/O.

mod family;
mod regions;
mod table;
#[cfg(test)]
mod tests;

use std::{borrow::Borrow, collections::BTreeSet, ops::Range};

use serde::Serialize;

use crate::{model::FamilyEvent, proc::Snapshot};
use family::Family;
use regions::Regions;

/// Why pages became private and dirty (positive) or ceased to be (negative).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Own write to a page shared with others: a copy of its own.
    pub copy: i64,
    /// Own write after a read of the zero page.
    pub zero: i64,
    /// First touch of anonymous memory.
    pub anon: i64,
    /// Own write to a page of a private file mapping.
    pub file: i64,
    /// Own write to a page merged by KSM.
    pub ksm: i64,
    /// Copied for this process by the fork that made it, because the parent's page was pinned.
    pub pinned: i64,
    /// The others who shared the page copied it, exited or became another program; this process did nothing.
    pub unshared_by_others: i64,
    /// Private until a fork: the child shares it now. Negative.
    pub given_up: i64,
    /// Private until KSM merged it with pages of the same content, which no event tells: it is taken from the frames
    /// of the second reading. Negative.
    pub merged: i64,
    /// Private until it was unmapped, discarded or replaced, or the process ended. Negative.
    pub unmapped: i64,
    /// Pages of the page cache (of files, of shared memory) that are dirty and mapped only here. No fault of
    /// copy-on-write makes or ends these; they are counted in pagemap at both readings.
    pub page_cache: i64,
}

impl Explained {
    /// All moves together.
    pub fn total(&self) -> i64 {
        self.copy
            + self.zero
            + self.anon
            + self.file
            + self.ksm
            + self.pinned
            + self.unshared_by_others
            + self.given_up
            + self.merged
            + self.unmapped
            + self.page_cache
    }

    /// Whether nothing moved, not even back and forth.
    pub fn is_empty(&self) -> bool {
        *self == Explained::default()
    }

    fn add(&mut self, reason: Reason, pages: i64) {
        let field = match reason {
            Reason::Copy => &mut self.copy,
            Reason::Zero => &mut self.zero,
            Reason::Anon => &mut self.anon,
            Reason::File => &mut self.file,
            Reason::Ksm => &mut self.ksm,
            Reason::Pinned => &mut self.pinned,
            Reason::UnsharedByOthers => &mut self.unshared_by_others,
            Reason::GivenUp => &mut self.given_up,
            Reason::Merged => &mut self.merged,
            Reason::Unmapped => &mut self.unmapped,
        };
        *field += pages;
    }
}

/// One field of [`Explained`] that the family's life can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Copy,
    Zero,
    Anon,
    File,
    Ksm,
    Pinned,
    UnsharedByOthers,
    GivenUp,
    Merged,
    Unmapped,
}

/// One mapping of one process between two readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The process.
    pub pid: u32,
    /// Name of the mapping, or `anonymous`.
    pub region: String,
    /// Permissions, as in maps.
    pub perms: String,
    /// `Private_Dirty` at the first and at the second reading; 0 where there was no such process or mapping.
    pub private_dirty_kb: [u64; 2],
    /// What the events say.
    pub explained_pages: Explained,
    /// What smaps says less what the events say. 0, or something is wrong.
    pub residual_pages: i64,
}

/// Name of the row for events on pages in no mapping of either reading, should these not cancel out.
pub const NO_MAPPING: &str = "in no mapping";

/// What is known of the programs, and no event tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// They may unmap or discard memory and touch it anew (allocators do: `munmap`, `MADV_DONTNEED`). A first
    /// touch of a page that is private already then means that it was discarded in between; of a program that
    /// never does, it means that an event was seen twice.
    pub may_discard: bool,
    /// Addresses of pages that are pinned (by io_uring, RDMA or the like), so that a fork copies them at once. A page
    /// of these counts as copied if the child's frame differs from the parent's; should there be a fault that explains
    /// that, it is left over.
    pub pinned: Range<u64>,
}

/// Explains the way from one reading of the family to the next: one row for each mapping that has, had or
/// moved any private dirty page.
///
/// `before` and `after` hold the family's processes that lived then; `events` is what happened in between, in
/// order.
pub fn explain<S: Borrow<Snapshot>>(
    before: &[S],
    events: &[FamilyEvent],
    after: &[S],
    known: Known,
) -> Vec<Row> {
    let before: Vec<&Snapshot> = before.iter().map(Borrow::borrow).collect();
    let after: Vec<&Snapshot> = after.iter().map(Borrow::borrow).collect();
    let mut family = Family::new(&before, &after, events, known);
    for event in events {
        family.apply(event);
    }
    family.settle();
    let pids: BTreeSet<u32> =
        before.iter().chain(&after).map(|s| s.pid).chain(family.moves.keys().copied()).collect();
    pids.iter()
        .flat_map(|&pid| {
            let find = |side: &[&'_ Snapshot]| side.iter().position(|snapshot| snapshot.pid == pid);
            let regions = Regions::new(
                find(&before).map(|index| before[index]),
                find(&after).map(|index| after[index]),
                family.image(pid),
            );
            regions.rows(pid, family.moves.get(&pid).map_or(&[][..], Vec::as_slice))
        })
        .collect()
}
