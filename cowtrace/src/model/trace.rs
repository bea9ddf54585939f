//! Faults one by one, as `cowtrace trace` shows them.

use std::sync::Arc;

use cowtrace_abi::Kind;

use super::{AddressSpace, Region};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedFault {
    /// When it began, ns since the start of the session.
    pub at_ns: u64,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Command name of the program that the process ran.
    pub comm: Arc<str>,
    /// What it was.
    pub kind: Kind,
    /// Address that was written to.
    pub address: u64,
    /// Pages that it brought in.
    pub pages: u64,
    /// The mapping, in the bounds that it had by then.
    pub region: Option<Region>,
    /// Instruction that wrote, or made the system call that did.
    pub ip: Option<u64>,
    /// The function that it is in; `[path+0xoffset]` or `[unknown]` where there is no name.
    pub function: Option<Arc<str>>,
    /// Who wrote.
    pub writer: Option<Writer>,
    /// How long the fault took, ns, if that was asked for.
    pub took_ns: Option<u64>,
}

/// Who wrote to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The program itself.
    User,
    /// The kernel, in a system call.
    Kernel,
}

/// What was traced, in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceTotals {
    /// Faults shown, by kind as [`kind_name`] has them, in that order.
    pub shown: Vec<(&'static str, u64)>,
    /// Faults that a filter left out.
    pub filtered: u64,
    /// Faults that were counted and could not be told.
    pub lost: u64,
}

/// The names of kinds, in the order in which they are listed.
pub const KIND_NAMES: [&str; 13] = [
    "copy",
    "zero",
    "file",
    "ksm",
    "hugetlb",
    "pinned",
    "reuse",
    "shared",
    "anon",
    "denied",
    "raced",
    "hugetlb-reuse",
    "thp-split",
];

/// How a kind is called: as in [`super::Faults`], where it is in these.
pub const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Copy => "copy",
        Kind::Zero => "zero",
        Kind::FileAfterRead | Kind::FileFirstWrite => "file",
        Kind::Ksm => "ksm",
        Kind::Hugetlb => "hugetlb",
        Kind::HugetlbReuse => "hugetlb-reuse",
        Kind::Pinned => "pinned",
        Kind::Reuse => "reuse",
        Kind::Shared => "shared",
        Kind::Anon => "anon",
        Kind::Denied => "denied",
        Kind::Raced => "raced",
        Kind::HugeSplit => "thp-split",
    }
}

impl TracedFault {
    /// Distance from the region's first address.
    pub fn offset(&self) -> Option<u64> {
        self.region.as_ref().map(|region| self.address.saturating_sub(region.start))
    }
}

impl TraceTotals {
    /// Faults shown.
    pub fn shown(&self) -> u64 {
        self.shown.iter().map(|(_, faults)| faults).sum()
    }
}

impl AddressSpace {
    /// The region of one fault. `vma`: the mapping as the kernel had it, where the hooks tell; `remote`: it is another process's.
    pub fn region_of_fault(
        &mut self,
        address: u64,
        at_ns: u64,
        vma: Option<(u64, u64)>,
        remote: bool,
    ) -> Option<Region> {
        let id = match self.region_at(address, at_ns, at_ns, 0) {
            _ if remote => self.remote_region(vma?)?,
            Some(known) => known.region,
            // Memory that mremap has moved is told by no record; the kernel's own mapping is.
            None => self.unlisted_region(vma?)?,
        };
        self.region(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mapping, Perms};

    #[test]
    fn every_kind_has_a_name_that_is_listed() {
        for kind in Kind::ALL {
            assert!(KIND_NAMES.contains(&kind_name(kind)), "{kind:?}");
        }
    }

    #[test]
    fn a_fault_belongs_to_what_was_mapped_then_or_to_what_the_kernel_had() {
        let mut space = AddressSpace::new();
        let name: Arc<str> = "[heap]".into();
        space.apply(5, Mapping { start: 0x1000, end: 0x3000, perms: Perms::PRIVATE, offset: 0, name });
        let known = space.region_of_fault(0x2000, 9, None, false).unwrap();
        assert_eq!((&*known.name, known.start), ("[heap]", 0x1000));
        assert_eq!(space.region_of_fault(0x8000, 9, None, false), None);
        let moved = space.region_of_fault(0x8000, 9, Some((0x8000, 0x9000)), false).unwrap();
        assert_eq!((&*moved.name, moved.start), ("", 0x8000));
        let remote = space.region_of_fault(0x2000, 9, Some((0x2000, 0x3000)), true).unwrap();
        assert_eq!(&*remote.name, "[other process]");
    }
}
