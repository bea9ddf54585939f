//! Fault counts in the words of the report.

use cowtrace_abi::{KINDS, Kind};
use serde::{Deserialize, Serialize};

/// Counts per kind, as the report shows them. `None` (JSON `null`) is a count that the backend cannot know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Faults {
    /// Writes to shared anonymous pages that were copied.
    pub copy: Option<u64>,
    /// Writes to addresses that mapped the shared zero page.
    pub zero: Option<u64>,
    /// Private file pages copied, after a read or on a first write.
    pub file: Option<u64>,
    /// Writes to pages merged by KSM.
    pub ksm: Option<u64>,
    /// hugetlb pages copied.
    pub hugetlb: Option<u64>,
    /// Pages copied at fork time because they were pinned.
    pub pinned: Option<u64>,
    /// Write-protect faults solved without a copy.
    pub reuse: Option<u64>,
    /// Write-protect faults on shared mappings.
    pub shared: Option<u64>,
    /// First touches of anonymous memory.
    pub anon: Option<u64>,
    /// Writes that the mapping forbade.
    pub denied: Option<u64>,
}

impl Faults {
    /// The sum of several; what is not known of one is not known in all.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Faults> + Clone) -> Faults {
        let sum = |value: fn(&Faults) -> Option<u64>| all.clone().map(value).sum();
        Faults {
            copy: sum(|f| f.copy),
            zero: sum(|f| f.zero),
            file: sum(|f| f.file),
            ksm: sum(|f| f.ksm),
            hugetlb: sum(|f| f.hugetlb),
            pinned: sum(|f| f.pinned),
            reuse: sum(|f| f.reuse),
            shared: sum(|f| f.shared),
            anon: sum(|f| f.anon),
            denied: sum(|f| f.denied),
        }
    }
}

/// Raw counts, indexed by [`Kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; KINDS]);

impl Counts {
    /// The count of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Adds `faults` of one kind.
    pub fn add(&mut self, kind: Kind, faults: u64) {
        self.0[kind as usize] += faults;
    }

    /// Adds other counts.
    pub fn merge(&mut self, other: &Counts) {
        for (sum, value) in self.0.iter_mut().zip(other.0) {
            *sum += value;
        }
    }

    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Counts) -> Counts {
        let mut delta = *self;
        for (value, before) in delta.0.iter_mut().zip(earlier.0) {
            *value = value.saturating_sub(before);
        }
        delta
    }

    /// All faults of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The figure that equals taskstats' `wpcopy_count`: entries into the write-protect copy path. A private file
    /// page on its first write is not among them (`do_cow_fault`), a reused hugetlb page is (`hugetlb_wp`).
    pub fn wpcopy(&self) -> u64 {
        [
            Kind::Copy,
            Kind::Zero,
            Kind::FileAfterRead,
            Kind::Ksm,
            Kind::Hugetlb,
            Kind::HugetlbReuse,
            Kind::Raced,
        ]
        .iter()
        .map(|&kind| self.of(kind))
        .sum()
    }

    /// Bytes whose content was copied; zeroed pages are not.
    pub fn copied_bytes(&self, page_size: u64, hugetlb_size: u64) -> u64 {
        let small = [Kind::Copy, Kind::FileAfterRead, Kind::FileFirstWrite, Kind::Ksm, Kind::Pinned];
        small.iter().map(|&kind| self.of(kind)).sum::<u64>() * page_size
            + self.of(Kind::Hugetlb) * hugetlb_size
    }

    /// In the words of the report, with `None` for each kind that is not among `known`.
    pub fn to_faults(&self, known: &KnownKinds) -> Faults {
        let value = |kinds: &[Kind]| {
            kinds.iter().all(|&k| known.has(k)).then(|| kinds.iter().map(|&k| self.of(k)).sum())
        };
        Faults {
            copy: value(&[Kind::Copy]),
            zero: value(&[Kind::Zero]),
            file: value(&[Kind::FileAfterRead, Kind::FileFirstWrite]),
            ksm: value(&[Kind::Ksm]),
            hugetlb: value(&[Kind::Hugetlb]),
            pinned: value(&[Kind::Pinned]),
            reuse: value(&[Kind::Reuse]),
            shared: value(&[Kind::Shared]),
            anon: value(&[Kind::Anon]),
            denied: value(&[Kind::Denied]),
        }
    }
}

/// The kinds that a backend can tell apart on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKinds(u16);

impl KnownKinds {
    /// Every kind but these.
    pub fn all_but(unknown: &[Kind]) -> KnownKinds {
        let mut bits = (1 << KINDS) - 1;
        for &kind in unknown {
            bits &= !(1 << kind as u8);
        }
        KnownKinds(bits)
    }

    /// Whether the sum over the write-protect path is known: where kinds cannot be told apart, they are still counted; where
    /// there is no hook for hugetlb pages, these are missing.
    pub fn has_wpcopy(&self) -> bool {
        self.has(Kind::Hugetlb) || !self.has(Kind::Copy)
    }

    /// Whether this kind is known.
    pub fn has(&self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}
