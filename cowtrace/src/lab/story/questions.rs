//! Questions about a story: faults by kind and place, frames, mappings.

use std::ops::Range;

use cowtrace_abi::Kind;

use super::{Checkpoint, Observed, Story};
use crate::{
    model::FamilyEvent,
    proc::{AnonPage, Snapshot, Status, Vma},
};

/// From when on faults are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) enum Since {
    /// From the start of the process's present program.
    Start,
    /// From the checkpoint with this name.
    Checkpoint(&'static str),
    /// From the checkpoint before the last.
    LastButOne,
}

impl Story {
    fn last(&self) -> Option<&Checkpoint> {
        self.checkpoints.last()
    }

    /// The checkpoint with this name.
    pub fn checkpoint(&self, name: &str) -> Option<&Checkpoint> {
        self.checkpoints.iter().find(|checkpoint| checkpoint.name == name)
    }

    /// The process with this role, as it was last seen.
    pub fn process(&self, role: usize) -> Option<&Observed> {
        self.last()?.process(role)
    }

    /// The same at the checkpoint before the last.
    pub fn process_before(&self, role: usize) -> Option<&Observed> {
        self.checkpoints[self.checkpoints.len().checked_sub(2)?].process(role)
    }

    /// The same at the checkpoint with this name.
    pub fn process_at(&self, name: &str, role: usize) -> Option<&Observed> {
        self.checkpoint(name)?.process(role)
    }

    /// Sizes of the process at the checkpoint with this name.
    pub fn status_at(&self, name: &str, role: usize) -> Option<Status> {
        Some(self.process_at(name, role)?.status)
    }

    /// A mapping of this role, at the last checkpoint.
    pub fn mapping(&self, role: usize, name: &str) -> Option<&Vma> {
        self.process(role)?.snapshot.named(name)
    }

    /// The mapping with the step's buffer, at the checkpoint with this name.
    pub fn buffer_at(&self, name: &str, role: usize) -> Option<&Vma> {
        self.process_at(name, role)?.buffer_mapping()
    }

    /// Faults of a kind in a mapping, over the life of the present program.
    pub fn faults_in(&self, role: usize, name: &str, kind: Kind) -> Option<u64> {
        let vma = self.mapping(role, name)?;
        self.faults(role, Some(&(vma.start..vma.end)), Some(kind), Since::Start)
    }

    /// Faults of any kind in a mapping since the checkpoint before the last.
    pub fn recent_faults_in(&self, role: usize, name: &str) -> Option<u64> {
        let vma = self.mapping(role, name)?;
        self.faults(role, Some(&(vma.start..vma.end)), None, Since::LastButOne)
    }

    /// Faults of a kind anywhere, over the life of the present program.
    pub fn faults_of(&self, role: usize, kind: Kind) -> Option<u64> {
        self.faults(role, None, Some(kind), Since::Start)
    }

    /// Faults of a kind in the step's buffer.
    pub fn buffer_faults(&self, role: usize, kind: Kind, since: Since) -> Option<u64> {
        let process = self.last_sight(role)?;
        self.faults(role, Some(&process.buffer), Some(kind), since)
    }

    /// Faults of a kind in the step's buffer, as it was at the checkpoint with this name, between that and the one
    /// before.
    pub fn buffer_faults_at(&self, name: &str, role: usize, kind: Kind) -> Option<u64> {
        self.faults_before(name, role, &self.process_at(name, role)?.buffer, Some(kind))
    }

    /// Faults of a process that was seen at any checkpoint: between these addresses (or anywhere), of this
    /// kind (or of any), up to the last checkpoint.
    pub fn faults(
        &self,
        role: usize,
        addresses: Option<&Range<u64>>,
        kind: Option<Kind>,
        since: Since,
    ) -> Option<u64> {
        let Snapshot { pid, page_size, .. } = self.last_sight(role)?.snapshot;
        let first = match since {
            Since::Start => 0,
            // Events of a checkpoint are those before it.
            Since::Checkpoint(name) => self.checkpoints.iter().position(|c| c.name == name)? + 1,
            Since::LastButOne => self.checkpoints.len().checked_sub(1)?,
        };
        let events: Vec<&FamilyEvent> =
            self.checkpoints.get(first..).unwrap_or_default().iter().flat_map(|c| &c.events).collect();
        let is_exec = |event: &&FamilyEvent| matches!(event, FamilyEvent::Exec { pid: of } if *of == pid);
        let program = events.iter().rposition(is_exec).map_or(0, |exec| exec + 1);
        let asked = Faults { pid: Some(pid), kind, addresses, page_size };
        Some(asked.count(events[program..].iter().copied()))
    }

    /// Faults in the step's buffer, of this kind (or of any), before the checkpoint with this name and since the
    /// one before it.
    pub fn buffer_faults_before(&self, name: &str, role: usize, kind: Option<Kind>) -> Option<u64> {
        self.faults_before(name, role, &self.last_sight(role)?.buffer, kind)
    }

    /// The same between any two addresses.
    pub fn faults_before(
        &self,
        name: &str,
        role: usize,
        addresses: &Range<u64>,
        kind: Option<Kind>,
    ) -> Option<u64> {
        let Snapshot { pid, page_size, .. } = self.last_sight(role)?.snapshot;
        let asked = Faults { pid: Some(pid), kind, addresses: Some(addresses), page_size };
        Some(asked.count(&self.checkpoint(name)?.events))
    }

    /// Pages of the step's buffer behind which two processes have the same frame, at the last checkpoint.
    pub fn common_buffer_frames(&self, one: usize, other: usize) -> Option<u64> {
        Some(self.process(one)?.same_buffer_frames(self.process(other)?))
    }

    /// Pages of the step's buffer whose frame is still the one of that checkpoint.
    pub fn kept_buffer_frames(&self, role: usize, since: &str) -> Option<u64> {
        Some(self.process(role)?.same_buffer_frames(self.process_at(since, role)?))
    }

    /// Frames behind the step's buffer in all processes together at the checkpoint with this name: each counts once,
    /// however often it is mapped. The memory that the buffer really takes.
    pub fn buffer_frames_in_use(&self, name: &str) -> Option<u64> {
        let pages = self.checkpoint(name)?.processes.iter().flat_map(Observed::buffer_pages);
        let mut frames: Vec<u64> = pages.map(|anon| anon.frame).collect();
        frames.sort_unstable();
        frames.dedup();
        Some(frames.len() as u64)
    }

    /// The process as it was last seen at any checkpoint: it may be gone by the last one.
    fn last_sight(&self, role: usize) -> Option<&Observed> {
        self.checkpoints.iter().rev().find_map(|checkpoint| checkpoint.process(role))
    }
}

impl Checkpoint {
    /// The process with this role.
    pub fn process(&self, role: usize) -> Option<&Observed> {
        self.processes.iter().find(|process| process.role == role)
    }

    /// Faults of a kind between these addresses since the checkpoint before, of all processes: also of those that
    /// came and went in between.
    pub fn faults_of_all(&self, addresses: &Range<u64>, kind: Kind) -> Option<u64> {
        let page_size = self.processes.first()?.snapshot.page_size;
        let asked = Faults { pid: None, kind: Some(kind), addresses: Some(addresses), page_size };
        Some(asked.count(&self.events))
    }
}

impl Observed {
    /// The mapping with the step's buffer.
    pub fn buffer_mapping(&self) -> Option<&Vma> {
        if self.buffer.is_empty() {
            return None;
        }
        self.snapshot.vma_of(self.buffer.start / self.snapshot.page_size)
    }

    /// Number of the frame behind an anonymous page (page number: address / page size) that is in memory.
    pub fn frame(&self, page: u64) -> Option<u64> {
        self.snapshot.anon_page(page).map(|anon| anon.frame)
    }

    /// Pages on which the first so many bytes of the step's buffer lie.
    pub fn buffer_pages_in(&self, bytes: u64) -> u64 {
        let page_size = self.snapshot.page_size;
        (self.buffer.start + bytes).div_ceil(page_size) - self.buffer.start / page_size
    }

    /// Lowest-level page tables that describe the step's buffer.
    pub fn buffer_tables(&self) -> u64 {
        tables(&self.buffer, self.snapshot.page_size)
    }

    /// Pages of the step's buffer that are in memory, by number.
    pub fn buffer_pages(&self) -> &[AnonPage] {
        self.pages(&self.buffer)
    }

    /// Pages between these addresses that are in memory, by number.
    pub fn pages(&self, addresses: &Range<u64>) -> &[AnonPage] {
        let (anon, page_size) = (&self.snapshot.anon, self.snapshot.page_size);
        let first = anon.partition_point(|anon| anon.page < addresses.start / page_size);
        let pages = &anon[first..];
        &pages[..pages.partition_point(|anon| anon.page < addresses.end.div_ceil(page_size))]
    }

    /// Pages of the step's buffer behind which another process, or this one at another time, has the same frame.
    pub fn same_buffer_frames(&self, other: &Observed) -> u64 {
        self.same_frames(other, &self.buffer)
    }

    /// The same of pages between any two addresses.
    pub fn same_frames(&self, other: &Observed, addresses: &Range<u64>) -> u64 {
        let same = |anon: &&AnonPage| other.frame(anon.page) == Some(anon.frame);
        self.pages(addresses).iter().filter(same).count() as u64
    }
}

/// Which faults are asked for; `None`: any.
struct Faults<'a> {
    pid: Option<u32>,
    kind: Option<Kind>,
    addresses: Option<&'a Range<u64>>,
    page_size: u64,
}

impl Faults<'_> {
    /// Copies of pinned pages are made by fork, and are no faults: they are counted only where they are asked for.
    fn asks_for(&self, kind: Kind) -> bool {
        self.kind.map_or(kind != Kind::Pinned, |asked| asked == kind)
    }

    fn count<'e>(&self, events: impl IntoIterator<Item = &'e FamilyEvent>) -> u64 {
        let of = |event: &FamilyEvent| match event {
            FamilyEvent::Pages { pid, kind, pages, faults }
                if self.pid.is_none_or(|of| of == *pid) && self.asks_for(*kind) =>
            {
                self.addresses.map_or(*faults, |range| inside(pages, *faults, self.page_size, range))
            }
            _ => 0,
        };
        events.into_iter().map(of).sum()
    }
}

fn tables(addresses: &Range<u64>, page_size: u64) -> u64 {
    // A table is a page of entries of 8 bytes, one for each page.
    let described = page_size * (page_size / 8);
    addresses.end.div_ceil(described) - addresses.start / described
}

/// Of these faults, those inside of an address range. Faults beyond one per page are not told apart by page,
/// and counted where any page is.
pub(super) fn inside(pages: &[u64], faults: u64, page_size: u64, range: &Range<u64>) -> u64 {
    let touched = range.start / page_size..range.end.div_ceil(page_size);
    let inside = pages.iter().filter(|page| touched.contains(page)).count() as u64;
    if inside == 0 { 0 } else { inside + faults.saturating_sub(pages.len() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_table_describes_as_many_pages_as_it_has_entries() {
        let span = 2 << 20;
        assert_eq!(tables(&(0..span), 4096), 1);
        assert_eq!(tables(&(0..span + 1), 4096), 2);
        assert_eq!(tables(&(span - 16..3 * span + 16), 4096), 4);
        assert_eq!(tables(&(0..span), 65536), 1);
    }
}
