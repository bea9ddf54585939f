//! Events page by page and in order, for those who must explain each page (the lab's ledger).

use cowtrace_abi::{Kind, WINDOW_PAGES};

/// One step in the life of a family of processes.
///
/// Steps of one process are in order; a process's steps before its fork come before the fork, and the child's
/// after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyEvent {
    /// `parent` created `child`, which shares all its private pages.
    Fork {
        /// Process id of the forking process.
        parent: u32,
        /// Process id of the new one.
        child: u32,
    },
    /// `parent` created `child`, which uses its memory until it becomes another program or ends (vfork,
    /// posix_spawn).
    Vfork {
        /// Process id of the process whose memory it is.
        parent: u32,
        /// Process id of the new one.
        child: u32,
    },
    /// Faults of one kind.
    Pages {
        /// Process id.
        pid: u32,
        /// What the faults were.
        kind: Kind,
        /// Page numbers (address / page size), ascending; a page that was hit twice appears once.
        pages: Vec<u64>,
        /// Number of faults, at least the number of pages.
        faults: u64,
    },
    /// The process became another program: all its mappings are new.
    Exec {
        /// Process id.
        pid: u32,
    },
    /// The process is gone.
    Exit {
        /// Process id.
        pid: u32,
    },
}

/// Faults of one kind on neighbouring pages of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageBatch {
    /// Session-wide identity of the process.
    pub id: u64,
    /// What the faults were.
    pub kind: Kind,
    /// Number of the window: page number / 64.
    pub window: u64,
    /// Low bits of the process's epoch ([`cowtrace_abi::ProcSlot::epoch`]): between which of its forks this was.
    pub epoch: u16,
    /// Which of the window's pages were hit.
    pub bitmap: u64,
    /// Faults, at least as many as bits.
    pub faults: u64,
    /// Pages from the first hit one on that one fault brought in (a huge page); else 0.
    pub span: u64,
    /// No later than the first hit, monotonic ns.
    pub first_ns: u64,
    /// No earlier than the last hit, monotonic ns.
    pub last_ns: u64,
    /// The mapping that the first hit was in, as the kernel had it: first address and end, where the hooks tell.
    pub vma: Option<(u64, u64)>,
    /// The pages are another process's: this one wrote to its memory.
    pub remote: bool,
    /// Only the mapping is known, not which of its pages they are.
    pub unplaced: bool,
}

impl PageBatch {
    /// Pages on which a fault was taken, ascending.
    pub fn hit(&self) -> impl Iterator<Item = u64> + '_ {
        let first = self.window * WINDOW_PAGES;
        (0..WINDOW_PAGES).filter(|bit| self.bitmap >> bit & 1 != 0).map(move |bit| first + bit)
    }

    /// All pages that the faults changed, ascending.
    pub fn pages(&self) -> Vec<u64> {
        match self.span {
            0 => self.hit().collect(),
            span => self.hit().take(1).flat_map(|page| page..page.saturating_add(span)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(window: u64, bitmap: u64, span: u64) -> PageBatch {
        PageBatch {
            id: 1,
            kind: Kind::Zero,
            window,
            epoch: 0,
            bitmap,
            faults: 1,
            span,
            first_ns: 0,
            last_ns: 0,
            vma: None,
            remote: false,
            unplaced: false,
        }
    }

    #[test]
    fn bits_become_page_numbers() {
        assert_eq!(batch(2, 1 << 63 | 1, 0).pages(), [128, 191]);
    }

    #[test]
    fn a_huge_page_spans_its_pages() {
        let pages = batch(8, 1, 512).pages();
        assert_eq!((pages.len(), pages[0], pages[511]), (512, 512, 1023));
    }
}
