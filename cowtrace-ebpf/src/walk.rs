//! What an address maps, read from the x86 page tables.
//!
//! `mm_page_alloc` tells that a page was copied, but not what it was a copy of; the entry that the processor
//! refused to write through does. The layout of the tables is the architecture's (AMD64 APM volume 2, chapter 5; Intel
//! SDM volume 3A, chapter 5).

use cowtrace_abi::{Calibration, Kind, TaskSlot};

use crate::{config, page, read};

const PRESENT: u64 = 1 << 0;
/// The entry allows writing.
pub const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
/// Software bit of the kernel (`_PAGE_SPECIAL`): no page descriptor stands behind the entry.
const SPECIAL: u64 = 1 << 9;

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
fn step(table: u64, address: u64, shift: u32) -> Option<u64> {
    let entry: u64 = read::kernel(table + ((address >> shift) & 511) * 8)?;
    (entry & PRESENT != 0).then_some(entry)
}

/// The page-middle directory that covers an address, or the entry that maps the whole GiB.
#[inline(always)]
fn directory(calibration: &Calibration, pgd: u64, address: u64) -> Option<Result<u64, Leaf>> {
    let mut table = pgd;
    if calibration.levels == 5 {
        table = calibration.table(step(table, address, 48)?);
    }
    table = calibration.table(step(table, address, 39)?);
    let entry = step(table, address, 30)?;
    if entry & LARGE != 0 {
        return Some(Err(Leaf { entry, shift: 30 }));
    }
    Some(Ok(calibration.table(entry)))
}

/// Finds the entry in or below a page-middle directory.
#[inline(always)]
fn below(calibration: &Calibration, directory: u64, address: u64) -> Option<Leaf> {
    let entry = step(directory, address, 21)?;
    if entry & LARGE != 0 {
        return Some(Leaf { entry, shift: 21 });
    }
    let entry = step(calibration.table(entry), address, 12)?;
    Some(Leaf { entry, shift: 12 })
}

/// Finds the entry that maps a user address, starting from the top table at kernel address `pgd`.
#[inline(always)]
pub fn walk(calibration: &Calibration, pgd: u64, address: u64) -> Option<Leaf> {
    match directory(calibration, pgd, address)? {
        Ok(directory) => below(calibration, directory, address),
        Err(leaf) => Some(leaf),
    }
}

/// Where a walk begins: `mm->pgd`, and `mm->mm_lock_seq`.
#[derive(Clone, Copy)]
pub struct Tables {
    /// Kernel address of the top table.
    pub pgd: u64,
    /// Moves with each taking of the mmap lock for writing.
    pub seq: u32,
}

impl Tables {
    /// Of the current thread. For paths that are not taken at every fault: the verifier is slow with pointers to follow.
    #[inline(always)]
    pub fn of_current() -> Option<Tables> {
        let mm: u64 = read::kernel(read::current() as u64 + config!(task_mm))?;
        Some(Tables {
            pgd: read::kernel(mm + config!(mm_pgd))?,
            seq: read::kernel(mm + config!(mm_lock_seq))?,
        })
    }
}

/// The same for the current thread, which remembers the last page-middle directory that it passed: whoever frees one
/// takes the mmap lock for writing first, which moves `mm_lock_seq`.
#[inline(always)]
pub fn walk_cached(
    calibration: &Calibration,
    slot: &mut TaskSlot,
    Tables { pgd, seq }: Tables,
    address: u64,
) -> Option<Leaf> {
    let gib = (address >> 30) + 1;
    // An odd number: somebody holds the lock for writing.
    let stable = config!(mm_lock_seq) != 0 && seq & 1 == 0;
    if !stable || slot.cached_gib != gib || slot.cached_seq != u64::from(seq) {
        slot.cached_gib = 0;
        match directory(calibration, pgd, address)? {
            Ok(table) => slot.cached_table = table,
            Err(leaf) => return Some(leaf),
        }
        if stable {
            slot.cached_gib = gib;
            slot.cached_seq = u64::from(seq);
        }
    }
    below(calibration, slot.cached_table, address)
}

/// What a write to the page behind `leaf` would copy.
pub enum Behind {
    /// A page of this kind, by `wp_page_copy` (or, for hugetlb, by `hugetlb_wp`).
    Page(Kind),
    /// A hugetlb page of a file or of shared memory: a copy only if written through a private mapping.
    FileHugetlb,
    /// A file page mapped in a large block: the kernel unmaps the block and takes a first-write fault.
    LargeFile,
    /// The huge zero page, of which no page is copied.
    HugeZero,
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
    let page = calibration.vmemmap + pfn * config!(page_struct_size);
    let Some(content) = page::content(page) else { return Behind::Unknown };
    if leaf.shift != 12 && config!(pgty_hugetlb) != 0 {
        let Some(page_type) = read::kernel::<u32>(content.head + config!(page_type)) else {
            return Behind::Unknown;
        };
        if u64::from(page_type >> 24) == config!(pgty_hugetlb) {
            return if content.is_anonymous() { Behind::Page(Kind::Hugetlb) } else { Behind::FileHugetlb };
        }
    }
    match content.kind() {
        _ if leaf.shift != 12 && content.is_nobodys() => Behind::HugeZero,
        Kind::FileAfterRead if leaf.shift != 12 => Behind::LargeFile,
        kind => Behind::Page(kind),
    }
}
