//! Which mapping a page is counted for, where several had its address one after the other.

use std::collections::BTreeMap;

use crate::model::{REMOTE_REGION, RegionFaults};

/// Address ranges that do not overlap, each with the index of its mapping.
#[derive(Debug, Default)]
pub(super) struct Layout(BTreeMap<u64, (u64, usize)>);

impl Layout {
    /// The mapping with more copies comes first; the others have what it leaves.
    pub(super) fn new(regions: &[RegionFaults]) -> Layout {
        let replaced = |region: &RegionFaults| {
            let f = &region.faults;
            [f.copy, f.zero, f.file, f.ksm, f.hugetlb, f.pinned].into_iter().flatten().sum::<u64>()
        };
        let mut order: Vec<(usize, &RegionFaults)> =
            regions.iter().enumerate().filter(|(_, region)| region.name != REMOTE_REGION).collect();
        order.sort_by_key(|(_, region)| std::cmp::Reverse(replaced(region)));
        let mut layout = Layout::default();
        for (index, region) in order {
            layout.fill(region.start, region.end, index);
        }
        layout
    }

    /// Gives a mapping what is still free of its range.
    fn fill(&mut self, start: u64, end: u64, index: usize) {
        let mut from = self.0.range(..=start).next_back().map_or(start, |(_, &(end, _))| end.max(start));
        let taken: Vec<(u64, u64)> =
            self.0.range(start..end).map(|(&start, &(end, _))| (start, end)).collect();
        for (taken_from, taken_to) in taken {
            if from < taken_from {
                self.0.insert(from, (taken_from, index));
            }
            from = from.max(taken_to);
        }
        if from < end {
            self.0.insert(from, (end, index));
        }
    }

    /// The mapping of an address.
    pub(super) fn at(&self, address: u64) -> Option<usize> {
        let (_, &(end, index)) = self.0.range(..=address).next_back()?;
        (address < end).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Faults;

    fn region(start: u64, end: u64, copies: u64, name: &str) -> RegionFaults {
        let faults = Faults { copy: Some(copies), ..Faults::default() };
        RegionFaults { start, end, perms: "rw-p".into(), name: name.into(), faults }
    }

    #[test]
    fn the_heavier_of_two_mappings_has_what_both_had() {
        let regions = [
            region(0x1000, 0x9000, 1, "light"),
            region(0x3000, 0x5000, 9, "heavy"),
            region(0, u64::MAX, 99, REMOTE_REGION),
        ];
        let layout = Layout::new(&regions);
        let at = [0xfff, 0x1000, 0x2fff, 0x3000, 0x4fff, 0x5000, 0x8fff, 0x9000].map(|a| layout.at(a));
        assert_eq!(at, [None, Some(0), Some(0), Some(1), Some(1), Some(0), Some(0), None]);
    }
}
