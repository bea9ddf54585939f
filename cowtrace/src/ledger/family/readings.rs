//! What the two readings of a family say of single pages.

use crate::proc::{Snapshot, Vma};

/// The process's reading, if it was alive then.
pub(super) fn reading<'a>(side: &[&'a Snapshot], pid: u32) -> Option<&'a Snapshot> {
    side.iter().copied().find(|snapshot| snapshot.pid == pid)
}

/// Number of the frame behind an anonymous page at a reading.
pub(super) fn frame_at(side: &[&Snapshot], pid: u32, page: u64) -> Option<u64> {
    reading(side, pid)?.anon_page(page).map(|anon| anon.frame)
}

/// Whether the child's page is another one than its parent's, as far as can be seen: both are there to be seen.
pub(super) fn copied_at_fork(
    before: &[&Snapshot],
    after: &[&Snapshot],
    parent: u32,
    child: u32,
    page: u64,
) -> bool {
    let of_parent = frame_at(after, parent, page).or_else(|| frame_at(before, parent, page));
    matches!((of_parent, frame_at(after, child, page)), (Some(one), Some(other)) if one != other)
}

/// Bytes of a page.
pub(super) fn page_size(side: &[&Snapshot]) -> u64 {
    side.first().map_or(0, |snapshot| snapshot.page_size)
}

/// Finds the mappings of pages that are asked for in ascending order.
#[derive(Default)]
pub(super) struct Mappings {
    next: usize,
}

impl Mappings {
    /// The same as [`Snapshot::vma_of`].
    pub fn of<'s>(&mut self, snapshot: &'s Snapshot, page: u64) -> Option<&'s Vma> {
        let address = page.checked_mul(snapshot.page_size)?;
        while snapshot.vmas.get(self.next).is_some_and(|vma| vma.end <= address) {
            self.next += 1;
        }
        snapshot.vmas.get(self.next).filter(|vma| vma.contains(address))
    }
}
