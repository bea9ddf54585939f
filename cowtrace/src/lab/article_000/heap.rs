//! How large the heap of the steps is, and how much of it is touched, by the kernel's page size.

const KIB: u64 = 1 << 10;
/// What the steps allocate.
const ALLOCATED_BYTES: u64 = 64 * KIB;
/// What glibc asks the kernel for beyond what is allocated first, its notes, which are smaller than any page.
const RESERVE_BYTES: u64 = 128 * KIB;

/// The figures for this kernel's pages; the source has pages of 4 kB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heap {
    /// Room for the allocator's notes and reserve, in whole pages: 33 of 4 kB.
    pub(super) pages: u64,
    /// Of the data behind some of the notes, which push it over one more page boundary: 17 of 4 kB.
    pub(super) touched: u64,
    page_kb: u64,
}

impl Heap {
    /// With the pages of the kernel that runs.
    pub(super) fn here() -> Heap {
        Heap::with_pages_of(procfs::page_size())
    }

    fn with_pages_of(page_size: u64) -> Heap {
        let and_one_more = |bytes: u64| bytes.div_ceil(page_size) + 1;
        Heap {
            pages: and_one_more(RESERVE_BYTES),
            touched: and_one_more(ALLOCATED_BYTES),
            page_kb: page_size / KIB,
        }
    }

    /// Its Size, kB.
    pub(super) fn kb(self) -> u64 {
        self.pages * self.page_kb
    }

    /// What is in memory once all that was allocated is written, kB.
    pub(super) fn touched_kb(self) -> u64 {
        self.touched * self.page_kb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_figures_are_those_of_its_pages() {
        let figures = |page_size| {
            let heap = Heap::with_pages_of(page_size);
            [heap.kb(), heap.touched, heap.touched_kb()]
        };
        assert_eq!(figures(4 * KIB), [132, 17, 68]);
        assert_eq!(figures(16 * KIB), [144, 5, 80]);
        assert_eq!(figures(64 * KIB), [192, 2, 128]);
    }
}
