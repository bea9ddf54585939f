//! Counts of one process by mapping.

use std::collections::BTreeMap;

use super::{AddressSpace, Counts, PageBatch, RegionId};

/// Counts by region, and of what no mapping was known for.
#[derive(Clone, Debug, Default)]
pub struct RegionCounts {
    by_region: BTreeMap<RegionId, Counts>,
    unresolved: Counts,
}

impl RegionCounts {
    /// Attributes a batch of faults. Returns how many found no mapping; `hits` gets the regions, and how many faults were in
    /// each.
    pub fn attribute(
        &mut self,
        space: &mut AddressSpace,
        batch: &PageBatch,
        page_size: u64,
        hits: &mut Vec<(RegionId, u64)>,
    ) -> u64 {
        hits.clear();
        // Pages that were hit more than once: which of the window's they were is not kept.
        let mut faults = batch.faults.saturating_sub(u64::from(batch.bitmap.count_ones())) + 1;
        let mut unresolved = 0;
        let mut known: Option<(RegionId, u64)> = None;
        for page in batch.hit() {
            let address = page.saturating_mul(page_size);
            let region = match known {
                Some((region, end)) if address < end => Some(region),
                _ => {
                    let found = find(space, batch, address);
                    known = found;
                    found.map(|(region, _)| region)
                }
            };
            match region {
                Some(region) => match hits.last_mut() {
                    Some((last, count)) if *last == region => *count += faults,
                    _ => hits.push((region, faults)),
                },
                None => {
                    self.unresolved.add(batch.kind, faults);
                    unresolved += faults;
                }
            }
            faults = 1;
        }
        for &(region, faults) in hits.iter() {
            self.by_region.entry(region).or_default().add(batch.kind, faults);
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

/// The region of an address, and up to where it is the same.
fn find(space: &mut AddressSpace, batch: &PageBatch, address: u64) -> Option<(RegionId, u64)> {
    let seen = batch.vma.filter(|&(start, end)| (start..end).contains(&address));
    if batch.remote {
        return Some((space.remote_region(seen?)?, seen?.1));
    }
    let known = space.region_at(address, batch.first_ns, batch.last_ns, 0);
    if let Some(found) = known {
        return Some((found.region, found.end));
    }
    // Memory that mremap has moved is told by no record; the kernel's own mapping is.
    Some((space.unlisted_region(seen?)?, seen?.1))
}

#[cfg(test)]
mod tests {
    use cowtrace_abi::Kind;

    use super::*;

    #[test]
    fn every_fault_is_counted_even_without_a_mapping() {
        let mut counts = RegionCounts::default();
        let batch = PageBatch {
            id: 1,
            kind: Kind::Copy,
            window: 0,
            epoch: 0,
            bitmap: 0b111,
            faults: 5,
            span: 0,
            first_ns: 0,
            last_ns: 0,
            vma: None,
            remote: false,
            unplaced: false,
        };
        let lost = counts.attribute(&mut AddressSpace::new(), &batch, 4096, &mut Vec::new());
        assert_eq!((lost, counts.unresolved().of(Kind::Copy)), (5, 5));
    }
}
