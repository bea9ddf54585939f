//! Regions of memory that no record of a mapping told of, in the bounds that the kernel had for it at a fault.

use super::{AddressSpace, MAX_REGIONS, Perms, Region, RegionId};

/// Name of memory that a process wrote to, and that is not its own.
pub const REMOTE_REGION: &str = "[other process]";

impl AddressSpace {
    /// A region for memory that no record told of, in the bounds that the kernel had for it.
    pub(in crate::model) fn unlisted_region(&mut self, bounds: (u64, u64)) -> Option<RegionId> {
        self.region_named(bounds, "")
    }

    /// A region in another process's memory.
    pub(in crate::model) fn remote_region(&mut self, bounds: (u64, u64)) -> Option<RegionId> {
        self.region_named(bounds, REMOTE_REGION)
    }

    /// The region with this name that overlaps these bounds, which grows to hold them; or a new one.
    fn region_named(&mut self, (start, end): (u64, u64), name: &str) -> Option<RegionId> {
        let unlisted = |region: &Region| {
            &*region.name == name
                && region.perms == Perms::PRIVATE
                && region.start < end
                && start < region.end
        };
        if let Some((&id, region)) = self.regions.iter_mut().find(|(_, region)| unlisted(region)) {
            (region.start, region.end) = (region.start.min(start), region.end.max(end));
            return Some(id);
        }
        if self.regions.len() >= MAX_REGIONS {
            return None;
        }
        let id = RegionId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        self.regions.insert(id, Region { start, end, perms: Perms::PRIVATE, name: name.into() });
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_bounds_are_one_region_that_grows() {
        let mut space = AddressSpace::new();
        let moved = space.unlisted_region((0x1000, 0x3000)).unwrap();
        assert_eq!(space.unlisted_region((0x2000, 0x5000)), Some(moved));
        let region = space.region(moved).unwrap();
        assert_eq!((region.start, region.end, &*region.name), (0x1000, 0x5000, ""));
        assert_ne!(space.unlisted_region((0x5000, 0x6000)), Some(moved), "a neighbour");
        let remote = space.remote_region((0x1000, 0x3000)).unwrap();
        assert_ne!(remote, moved, "the same addresses in another process's memory");
        assert_eq!(&*space.region(remote).unwrap().name, REMOTE_REGION);
    }
}
