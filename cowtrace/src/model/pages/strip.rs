//! Mappings in cells, to be drawn: each cell a number of pages that is a power of two.

/// Cells of a mapping at most.
pub const MOST_CELLS: u64 = 2_048;
/// Mappings of a process that are kept in cells: those with the most copies.
pub const MOST_STRIPS: usize = 16;
/// Processes whose mappings are kept in cells: those with the most copies.
pub const MOST_MAPPED: usize = 16;

/// The mappings of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageStrips {
    /// Mappings with pages that were copied or replaced, by address.
    pub strips: Vec<PageStrip>,
    /// Mappings with fewer copies, beyond [`MOST_STRIPS`].
    pub left_out: u64,
    /// Their copies and replacements.
    pub left_out_hits: u64,
}

/// One mapping, from the first page that was copied or replaced to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageStrip {
    /// As in the report's regions; empty for unnamed anonymous memory.
    pub name: String,
    /// The same; empty for pages in no known mapping.
    pub perms: String,
    /// Pages of the whole mapping.
    pub mapping_pages: u64,
    /// Number of the first page of the first cell, a multiple of [`PageStrip::cell_pages`].
    pub first_page: u64,
    /// Number of the first page that was hit.
    pub from_page: u64,
    /// Number of the last page that was hit.
    pub to_page: u64,
    /// Pages of a cell: a power of two.
    pub cell_pages: u64,
    /// The cells.
    pub cells: Vec<PageCell>,
    /// Sum of all cells; `most` is the largest.
    pub whole: PageCell,
    /// Copies of all pages.
    pub copies: u64,
    /// Replacements of all pages.
    pub replacements: u64,
}

/// What is known of the pages of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageCell {
    /// Pages that were copied.
    pub copied: u32,
    /// Of these, pages that were copied more than once.
    pub again: u32,
    /// Most copies of a page.
    pub most: u32,
    /// Pages that were replaced.
    pub replaced: u32,
}

impl PageCell {
    /// Whether no page was copied or replaced.
    pub fn is_empty(&self) -> bool {
        self.copied == 0 && self.replaced == 0
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: PageCell) -> PageCell {
        PageCell {
            copied: self.copied.saturating_add(other.copied),
            again: self.again.saturating_add(other.again),
            most: self.most.max(other.most),
            replaced: self.replaced.saturating_add(other.replaced),
        }
    }
}

impl PageStrip {
    /// The same with larger cells, of a multiple of their pages; others cannot be had.
    #[must_use]
    pub fn coarser(&self, cell_pages: u64) -> PageStrip {
        if cell_pages <= self.cell_pages || !cell_pages.is_multiple_of(self.cell_pages) {
            return self.clone();
        }
        let first_page = self.first_page - self.first_page % cell_pages;
        let count = (self.to_page - first_page) / cell_pages + 1;
        let mut cells = vec![PageCell::default(); usize::try_from(count).unwrap_or(0)];
        for (place, cell) in (0..).zip(&self.cells) {
            let page = self.first_page + place * self.cell_pages;
            if let Some(into) = cells.get_mut(((page - first_page) / cell_pages) as usize) {
                *into = into.and(*cell);
            }
        }
        PageStrip { first_page, cell_pages, cells, ..self.clone() }
    }

    /// Pages from the first that was hit to the last.
    pub fn extent(&self) -> u64 {
        self.to_page - self.from_page + 1
    }
}
