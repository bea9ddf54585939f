//! What an address maps, read from the x86 page tables and page descriptors.
//!
//! `mm_page_alloc` tells that a page was copied, but not what it was a copy of; the entry that the processor
//! refused to write through does. The layout of the tables is the architecture's (AMD64 APM volume 2, chapter 5; Intel
//! SDM volume 3A, chapter 5), the fields of `struct page` come from the kernel's BTF.

use cowtrace_abi::{Calibration, Kind};

use crate::{config, read};

const PRESENT: u64 = 1 << 0;
/// The entry allows writing.
pub const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
/// Software bit of the kernel (`_PAGE_SPECIAL`): no page descriptor stands behind the entry.
const SPECIAL: u64 = 1 << 9;

const MAPPING_ANON: u64 = 1;
const MAPPING_KSM: u64 = 3;

/// An entry that maps an address.
#[derive(Clone, Copy)]
pub struct Leaf {
    /// The entry itself.
    pub entry: u64,
    /// Address bits below the mapped block: 12, 21 or 30.
    pub shift: u32,
}

impl Leaf {
    /// Frame number of the page that holds `address`.
    #[inline(always)]
    pub fn pfn(self, calibration: &Calibration, address: u64) -> u64 {
        let below = (address & ((1 << self.shift) - 1)) >> 12;
        // In an entry for a large block, bit 12 of the address field is an attribute (PAT).
        ((self.entry & calibration.phys_mask & !((1 << self.shift) - 1)) >> 12) + below
    }
}

#[inline(always)]
fn step(calibration: &Calibration, table: u64, address: u64, shift: u32) -> Option<u64> {
    let entry: u64 = read::kernel(table + ((address >> shift) & 511) * 8)?;
    (entry & PRESENT != 0).then_some(entry).filter(|_| calibration.direct_map != 0)
}

/// Finds the entry that maps a user address, starting from the top table at kernel address `pgd`.
#[inline(always)]
pub fn walk(calibration: &Calibration, pgd: u64, address: u64) -> Option<Leaf> {
    let next = |entry: u64| calibration.direct_map + (entry & calibration.phys_mask);
    let mut table = pgd;
    if calibration.levels == 5 {
        table = next(step(calibration, table, address, 48)?);
    }
    table = next(step(calibration, table, address, 39)?);
    let entry = step(calibration, table, address, 30)?;
    if entry & LARGE != 0 {
        return Some(Leaf { entry, shift: 30 });
    }
    let entry = step(calibration, next(entry), address, 21)?;
    if entry & LARGE != 0 {
        return Some(Leaf { entry, shift: 21 });
    }
    let entry = step(calibration, next(entry), address, 12)?;
    Some(Leaf { entry, shift: 12 })
}

/// What a write to the page behind `leaf` would copy.
pub enum Behind {
    /// A page of this kind, by `wp_page_copy` (or, for hugetlb, by `hugetlb_wp`).
    Page(Kind),
    /// A file page mapped in a large block: the kernel unmaps the block and takes a first-write fault.
    LargeFile,
    /// Not known.
    Unknown,
}

/// Classifies the page behind an entry.
#[inline(always)]
pub fn behind(calibration: &Calibration, leaf: Leaf, address: u64) -> Behind {
    let pfn = leaf.pfn(calibration, address);
    if pfn == calibration.zero_pfn {
        return Behind::Page(Kind::Zero);
    }
    if leaf.shift == 12 && leaf.entry & SPECIAL != 0 {
        return Behind::Page(Kind::FileAfterRead);
    }
    let mut page = calibration.vmemmap + pfn * config!(page_struct_size);
    let Some(head) = read::kernel::<u64>(page + config!(page_compound_head)) else {
        return Behind::Unknown;
    };
    if head & 1 != 0 {
        page = head - 1;
    }
    if leaf.shift != 12 && config!(pgty_hugetlb) != 0 {
        let Some(page_type) = read::kernel::<u32>(page + config!(page_type)) else {
            return Behind::Unknown;
        };
        if u64::from(page_type >> 24) == config!(pgty_hugetlb) {
            return Behind::Page(Kind::Hugetlb);
        }
    }
    let Some(mapping) = read::kernel::<u64>(page + config!(page_mapping)) else {
        return Behind::Unknown;
    };
    match mapping & MAPPING_KSM {
        MAPPING_KSM => Behind::Page(Kind::Ksm),
        MAPPING_ANON => Behind::Page(Kind::Copy),
        _ if leaf.shift != 12 => Behind::LargeFile,
        _ => Behind::Page(Kind::FileAfterRead),
    }
}
