//! Counts of one process by mapping.

use std::collections::BTreeMap;

use cowtrace_abi::{Kind, Pages, WINDOW_PAGES};

use super::{AddressSpace, Counts, RegionId};

/// Kind and page numbers (ascending) of a record of faults; `None` if the kind is not one.
pub fn window_pages(pages: &Pages) -> Option<(Kind, Vec<u64>)> {
    let window = &pages.window;
    let kind = Kind::from_u8(window.key as u8)?;
    let first = (window.key >> 8) * WINDOW_PAGES;
    let hit = (0..WINDOW_PAGES).filter(|bit| window.bitmap >> bit & 1 != 0).map(|bit| first + bit);
    Some(match pages.span {
        0 => (kind, hit.collect()),
        span => (kind, hit.take(1).flat_map(|page| page..page.saturating_add(span)).collect()),
    })
}

/// Counts by region, and of what no mapping was known for.
#[derive(Clone, Debug, Default)]
pub struct RegionCounts {
    by_region: BTreeMap<RegionId, Counts>,
    unresolved: Counts,
}

impl RegionCounts {
    /// Attributes one record of faults. Returns how many found no mapping.
    ///
    /// `tick_ns` is how much earlier than the fault its time may be.
    pub fn attribute(&mut self, space: &mut AddressSpace, pages: &Pages, page_size: u64, tick_ns: u64) -> u64 {
        let Some((kind, numbers)) = window_pages(pages) else { return pages.window.count };
        let window = &pages.window;
        // A huge page is one fault, however many pages it brings.
        let hit = if pages.span == 0 { numbers.as_slice() } else { numbers.get(..1).unwrap_or_default() };
        // Pages that were hit more than once: which of the window's they were is not kept.
        let mut faults = window.count.saturating_sub(hit.len() as u64) + 1;
        let mut unresolved = 0;
        for page in hit {
            let address = page.saturating_mul(page_size);
            match space.region_at(address, window.first_ns, window.last_ns, tick_ns) {
                Some(found) => self.by_region.entry(found.region).or_default().add(kind, faults),
                None => {
                    self.unresolved.add(kind, faults);
                    unresolved += faults;
                }
            }
            faults = 1;
        }
        unresolved
    }

    /// Counts by region.
    pub fn iter(&self) -> impl Iterator<Item = (RegionId, &Counts)> {
        self.by_region.iter().map(|(&region, counts)| (region, counts))
    }

    /// Counts that belong to no known mapping.
    pub fn unresolved(&self) -> &Counts {
        &self.unresolved
    }
}

#[cfg(test)]
mod tests {
    use cowtrace_abi::{Window, tag};

    use super::*;

    fn pages(first: u64, kind: Kind, bitmap: u64, count: u64, span: u64) -> Pages {
        let window = Window { key: first / 64 << 8 | kind as u64, bitmap, first_ns: 0, last_ns: 0, count };
        Pages { tag: tag::PAGES, id: 1, window, span }
    }

    #[test]
    fn bits_become_page_numbers() {
        let (kind, numbers) = window_pages(&pages(128, Kind::Zero, 1 << 63 | 1, 2, 0)).unwrap();
        assert_eq!((kind, numbers), (Kind::Zero, vec![128, 191]));
    }

    #[test]
    fn a_huge_page_spans_its_pages() {
        let (_, numbers) = window_pages(&pages(512, Kind::Anon, 1, 1, 512)).unwrap();
        assert_eq!((numbers.len(), numbers[0], numbers[511]), (512, 512, 1023));
    }

    #[test]
    fn every_fault_is_counted_even_without_a_mapping() {
        let mut counts = RegionCounts::default();
        let lost = counts.attribute(&mut AddressSpace::new(), &pages(0, Kind::Copy, 0b111, 5, 0), 4096, 0);
        assert_eq!((lost, counts.unresolved().of(Kind::Copy)), (5, 5));
    }
}
