//! How often each page was copied or replaced: counts of all processes, in bounded memory.

mod layout;
mod past;
mod process;
mod runs;
mod strip;
mod summary;
#[cfg(test)]
mod tests;
mod why;
mod window;

use std::collections::{BTreeMap, HashMap};

use cowtrace_abi::Kind;

use super::PageBatch;
pub use past::PastForks;
pub use process::*;
pub use strip::*;
pub use summary::Summary;
pub use why::{Before, Sharing};
use window::Window;

/// Bytes that counts may take for each page that [`PageCounts`] has room for.
pub const BYTES_PER_PAGE: u64 = 16;
/// Pages that there is room for unless the user asks for more: 64 MiB, and 16 GiB of copies.
pub const DEFAULT_MAX_PAGES: u64 = 4 << 20;

/// Bytes that are granted in any case, so that a small bound is one of pages.
const LEAST_BYTES: u64 = 64 << 10;
/// Bytes of a window in a map, with its share of the nodes where these are as empty as they can be (5 of 11 places).
const WINDOW_BYTES: u64 = 160;
/// Bytes of the counts of a window whose pages were hit again, with what the allocator adds.
const AGAIN_BYTES: u64 = 64 * 4 + 16;
/// Bytes of a process, in a hash map that is half empty.
const PROCESS_BYTES: u64 = 192;

const _: () = {
    // The fullest window: all its pages copied again, and replaced again.
    assert!(WINDOW_BYTES + 2 * AGAIN_BYTES <= 64 * BYTES_PER_PAGE);
    let leaf = 11 * (8 + size_of::<Window>()) + 16;
    assert!((leaf / 5 + (leaf + 12 * 8) / 25) as u64 <= WINDOW_BYTES);
    assert!(2 * (8 + size_of::<PageMap>() as u64) <= PROCESS_BYTES);
};

/// What happened to one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hits {
    /// Times that it was copied because it was shared since a fork.
    pub copies: u32,
    /// Times that another page came in its place for another reason: zero, file, ksm, hugetlb, pinned.
    pub replacements: u32,
}

/// What is still to be given out.
#[derive(Clone, Copy, Debug)]
struct Room {
    pages: u64,
    bytes: u64,
}

impl Room {
    fn take(&mut self, bytes: u64) -> bool {
        let there = self.bytes >= bytes;
        if there {
            self.bytes -= bytes;
        }
        there
    }

    /// As many of these bits as there is room for, the lowest first.
    fn take_pages(&mut self, wanted: u64) -> u64 {
        let mut given = 0;
        let mut left = wanted;
        while left != 0 && self.pages > 0 {
            let lowest = left & left.wrapping_neg();
            given |= lowest;
            left ^= lowest;
            self.pages -= 1;
        }
        given
    }
}

/// Counts by page, of all processes.
#[derive(Debug)]
pub struct PageCounts {
    processes: HashMap<u64, PageMap>,
    room: Room,
    /// Pages of the kernel's default huge page.
    huge_page: u64,
    lost: u64,
}

/// Counts by page, of one process.
#[derive(Clone, Debug, Default)]
pub struct PageMap {
    windows: BTreeMap<u64, Window>,
    copies: u64,
    replacements: u64,
    overflow: u64,
    unplaced: u64,
}

impl PageCounts {
    /// Without pages, and with room for so many, at [`BYTES_PER_PAGE`] each. `huge_page`: pages of a hugetlb page.
    pub fn new(max_pages: u64, huge_page: u64) -> PageCounts {
        let bytes = max_pages.saturating_mul(BYTES_PER_PAGE).max(LEAST_BYTES);
        PageCounts {
            processes: HashMap::new(),
            room: Room { pages: max_pages, bytes },
            huge_page: huge_page.max(1),
            lost: 0,
        }
    }

    /// Counts a batch, if it is of a kind that puts one page in the place of another.
    pub fn count(&mut self, batch: &PageBatch) {
        if !batch.kind.replaces_a_page() {
            return;
        }
        if !self.processes.contains_key(&batch.id) && !self.room.take(PROCESS_BYTES) {
            self.lost += batch.faults;
            return;
        }
        let process = self.processes.entry(batch.id).or_default();
        self.lost += process.count(batch, self.huge_page, &mut self.room);
    }

    /// Forgets a process, and has its room for others.
    pub fn forget(&mut self, id: u64) {
        let Some(process) = self.processes.remove(&id) else { return };
        self.room.bytes += PROCESS_BYTES;
        for taken in process.windows.values().map(Window::taken) {
            self.room.pages += taken.pages;
            self.room.bytes += taken.bytes;
        }
    }

    /// Faults on pages that found no room.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The pages of one process; `None` if none was counted.
    pub fn of(&self, id: u64) -> Option<&PageMap> {
        self.processes.get(&id)
    }
}

impl PageMap {
    /// Returns how many faults found no room.
    fn count(&mut self, batch: &PageBatch, huge_page: u64, room: &mut Room) -> u64 {
        let bits = u64::from(batch.bitmap.count_ones());
        if batch.remote || batch.unplaced {
            self.unplaced += batch.faults;
            return 0;
        }
        // Which of the window's pages were hit again is not told.
        self.unplaced += batch.faults.saturating_sub(bits);
        if batch.kind != Kind::Hugetlb {
            return self.hit(batch.window, batch.bitmap, batch, room);
        }
        // A hugetlb page is one, wherever it was written to.
        let first = |page: u64| page - page % huge_page;
        batch.hit().map(|page| self.hit(first(page) / 64, 1 << (first(page) % 64), batch, room)).sum()
    }

    fn hit(&mut self, number: u64, bitmap: u64, batch: &PageBatch, room: &mut Room) -> u64 {
        let lost = match self.windows.get_mut(&number) {
            Some(window) => window.count(bitmap, batch, room),
            None if room.take(WINDOW_BYTES) => {
                self.windows.entry(number).or_default().count(bitmap, batch, room)
            }
            None => bitmap,
        };
        let lost = u64::from(lost.count_ones());
        let counted = u64::from(bitmap.count_ones()) - lost;
        match batch.kind {
            Kind::Copy => self.copies += counted,
            _ => self.replacements += counted,
        }
        self.overflow += lost;
        lost
    }

    /// Sum of the copies of all pages.
    pub fn copies(&self) -> u64 {
        self.copies
    }

    /// Page numbers with what happened to them, ascending.
    pub fn pages(&self) -> impl Iterator<Item = (u64, Hits)> + '_ {
        self.windows.iter().flat_map(|(&number, window)| {
            (0..64)
                .map(move |bit| (number * 64 + bit, window.hits(bit as usize)))
                .filter(|(_, hits)| *hits != Hits::default())
        })
    }

    fn window(&self, page: u64) -> Option<&Window> {
        self.windows.get(&(page / 64))
    }
}
