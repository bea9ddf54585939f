//! A fault in the pieces that the kernel's own functions show: the write-protect path is entered, a page is installed.
//!
//! A copy is tried when `wp_page_copy` is entered, or, where that is inlined, when `vma_alloc_folio` is for the mapping and
//! address with which `do_wp_page` was entered; the page that `*_add_new_anon_rmap` then installs there makes it complete.
//! This holds for every writer: page faults, and system calls that write to another process's memory or pin pages (GUP),
//! which raise no page-fault tracepoint. Only entries are hooked: return probes have to find room for each call in flight,
//! and miss calls when there is none.

use core::ffi::c_void;

use cowtrace_abi::{Kind, TaskSlot, flag, state, without_page};

use super::{SIGSEGV, is_forbidden};
use crate::{
    config, events, latency,
    maps::{TASKS, current_tid, task_index},
    page, read, stacks,
    tally::record,
};

/// `enum fault_flag` of `include/linux/mm_types.h`; the same since 4.6.
const FAULT_FLAG_REMOTE: u64 = 1 << 7;
/// The same, since 5.19: a page is unshared in order to be pinned, not written.
const FAULT_FLAG_UNSHARE: u64 = 1 << 10;

/// `vm_flags` of `include/linux/mm.h`.
const VM_SHARED: u64 = 0x8;
const VM_MAYSHARE: u64 = 0x80;
const VM_PFNMAP: u64 = 0x400;
const VM_UFFD_WP: u64 = 0x1000;
const VM_MIXEDMAP: u64 = 0x1000_0000;

/// Words of `struct vm_fault` that hold the mapping, the address and the flags.
const VM_FAULT_WORDS: usize = 8;

/// The mapping and the address that a fault is on.
#[derive(Clone, Copy)]
pub struct Place {
    /// Kernel address of the `struct vm_area_struct`.
    pub vma: u64,
    /// User address.
    pub address: u64,
}

#[inline(always)]
fn traced() -> Option<*mut TaskSlot> {
    TASKS.get_ptr_mut(task_index(current_tid())?)
}

#[inline(always)]
fn vm_flags(vma: u64) -> u64 {
    read::kernel(vma + config!(vma_flags)).unwrap_or(0)
}

impl Place {
    /// From a `struct vm_fault`, with its flags.
    #[inline(always)]
    fn of_fault(vmf: u64) -> Option<(Place, u64)> {
        let words: [u64; VM_FAULT_WORDS] = read::kernel(vmf)?;
        let word = |offset: u64| words[(offset as usize / 8) & (VM_FAULT_WORDS - 1)];
        let place = Place { vma: word(config!(vmf_vma)), address: word(config!(vmf_address)) };
        Some((place, word(config!(vmf_flags)) >> (8 * (config!(vmf_flags) & 7)) & 0xffff_ffff))
    }

    /// Whether the thread's fault is on this very page.
    #[inline(always)]
    fn is_of(self, slot: &TaskSlot) -> bool {
        self.vma == slot.vma && self.address >> config!(page_shift) == slot.address >> config!(page_shift)
    }
}

#[inline(always)]
fn begin(task: *mut TaskSlot, place: Place, fault_flags: u64, state: u8) {
    settle(task);
    // SAFETY: points into TASKS; only the current thread writes to its slot.
    let slot = unsafe { &mut *task };
    slot.vma = place.vma;
    slot.address = place.address;
    slot.flags = if fault_flags & FAULT_FLAG_REMOTE != 0 { flag::REMOTE } else { 0 };
    slot.state = state;
}

/// `do_wp_page` is entered: a write to a page that is mapped without write permission.
#[inline(always)]
pub fn write_protect(vmf: u64) {
    let Some(task) = traced() else { return };
    let Some((place, fault_flags)) = Place::of_fault(vmf) else { return };
    begin(task, place, fault_flags, state::IN_WP_PAGE);
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    slot.vmf = vmf;
    let vm_flags = vm_flags(place.vma);
    if vm_flags & (VM_SHARED | VM_MAYSHARE) != 0 {
        slot.state = state::NONE;
        return record(task, Kind::Shared, place.address, 1, place.vma);
    }
    // Nothing may follow here: the fault goes to user space first, or the page was already the process's own.
    if vm_flags & VM_UFFD_WP != 0 || fault_flags & FAULT_FLAG_UNSHARE != 0 {
        slot.flags |= flag::MAY_END_EARLY;
    }
}

/// `wp_page_copy` is entered: a copy is tried.
#[inline(always)]
pub fn copy_tried() {
    let Some(task) = traced() else { return };
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    if slot.state == state::IN_WP_PAGE {
        slot.flags |= flag::TRIED;
    }
}

/// A page is allocated for this place (`vma_alloc_folio`): the same where `wp_page_copy` is inlined.
#[inline(always)]
pub fn allocated(place: Place) {
    let Some(task) = traced() else { return };
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    if slot.state == state::IN_WP_PAGE && place.is_of(slot) {
        slot.flags |= flag::TRIED;
    }
}

/// A fault begins (`handle_mm_fault`), so that an allocation that follows is not the last one's.
#[inline(always)]
pub fn fault_begins(ctx: *mut c_void, fault_flags: u32) {
    if let Some(task) = traced() {
        settle(task);
        latency::begin(task);
        events::begin_in_function(ctx, task, fault_flags);
    }
}

/// A new anonymous page is installed (`folio_add_new_anon_rmap`, `page_add_new_anon_rmap`).
#[inline(always)]
pub fn installed(ctx: *mut c_void, page: u64, place: Place) {
    let Some(task) = traced() else { return };
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    match slot.state {
        state::IN_WP_PAGE if slot.flags & flag::TRIED != 0 && place.is_of(slot) => {
            slot.state = state::NONE;
            record_copy(ctx, task, copied(slot), place);
        }
        // It takes the place of the entry that was swapped out; a copy of it, if it has to be one, comes later.
        state::SWAPPING_IN if place.is_of(slot) => {}
        state::FORKING if is_foreign(place.vma) => record_copy(ctx, task, Kind::Pinned, place),
        _ => first_write(ctx, task, page, place),
    }
}

/// Counts a page that came in the place of another.
#[inline(always)]
fn record_copy(ctx: *mut c_void, task: *mut TaskSlot, kind: Kind, place: Place) {
    stacks::take(ctx, task);
    record(task, kind, place.address, 1, place.vma);
}

/// What `wp_page_copy` copied. `do_wp_page` has found the old page by now; the shared zero page counts as none.
#[inline(always)]
fn copied(slot: &TaskSlot) -> Kind {
    match read::kernel::<u64>(slot.vmf + config!(vmf_page)) {
        Some(0) if vm_flags(slot.vma) & (VM_PFNMAP | VM_MIXEDMAP) == 0 => Kind::Zero,
        Some(0) => Kind::FileAfterRead,
        Some(old) => page::content(old).map_or(Kind::Copy, |content| content.kind()),
        None => Kind::Copy,
    }
}

/// Whether a mapping is not one of the current process's memory.
#[inline(always)]
fn is_foreign(vma: u64) -> bool {
    let own: Option<u64> = read::kernel(read::current_address() + config!(task_mm));
    read::kernel(vma + config!(vma_mm)) != own
}

#[inline(always)]
fn first_write(ctx: *mut c_void, task: *mut TaskSlot, page: u64, place: Place) {
    // exec builds the new program's stack in a memory that is not yet the process's.
    if is_foreign(place.vma) {
        return;
    }
    settle(task);
    let operations: u64 = read::kernel(place.vma + config!(vma_ops)).unwrap_or(0);
    if operations == 0 {
        record(task, Kind::Anon, place.address, page::pages(page), place.vma);
    } else {
        record_copy(ctx, task, Kind::FileFirstWrite, place);
    }
}

/// `do_swap_page` is entered: the page comes back from swap, and may have to be copied then.
#[inline(always)]
pub fn swapping_in(vmf: u64) {
    let Some(task) = traced() else { return };
    if let Some((place, fault_flags)) = Place::of_fault(vmf) {
        begin(task, place, fault_flags, state::SWAPPING_IN);
    }
}

/// A fault in hugetlb memory begins (`hugetlb_fault`): the kernel enters `hugetlb_wp` after a first touch as well, whose page
/// was installed before, so that the next page to be installed is not the copy of that one.
#[inline(always)]
pub fn hugetlb_begins() {
    if let Some(task) = traced() {
        settle(task);
    }
}

/// `hugetlb_wp` (`hugetlb_cow` before 5.19) is entered for a private mapping.
#[inline(always)]
pub fn hugetlb_write(place: Place, fault_flags: u64) {
    let Some(task) = traced() else { return };
    if vm_flags(place.vma) & VM_MAYSHARE == 0 {
        begin(task, place, fault_flags, state::IN_HUGETLB_WP);
    }
}

/// The same, where the function is given a `struct vm_fault`.
#[inline(always)]
pub fn hugetlb_fault(vmf: u64) {
    if let Some((place, fault_flags)) = Place::of_fault(vmf) {
        hugetlb_write(place, fault_flags);
    }
}

/// A new anonymous hugetlb page is installed.
#[inline(always)]
pub fn hugetlb_installed(ctx: *mut c_void, place: Place) {
    let Some(task) = traced() else { return };
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    // The address is that of the huge page, rounded down or not.
    if slot.state == state::IN_HUGETLB_WP && slot.vma == place.vma {
        slot.state = state::NONE;
        let place = Place { address: slot.address, ..place };
        record_copy(ctx, task, Kind::Hugetlb, place);
    } else if slot.state == state::FORKING && is_foreign(place.vma) {
        record_copy(ctx, task, Kind::Pinned, place);
    }
}

/// `__split_huge_pmd` is entered: a huge page's mapping becomes one of small pages.
#[inline(always)]
pub fn huge_split(place: Place) {
    let Some(task) = traced() else { return };
    if !is_foreign(place.vma) {
        record(task, Kind::HugeSplit, place.address, 1, place.vma);
    }
}

/// `kernel_clone` is entered: what is installed in another memory from here on was pinned.
#[inline(always)]
pub fn forking(ctx: *mut c_void, now_ns: u64) {
    let Some(task) = traced() else { return };
    settle(task);
    events::outside_of_faults(ctx, task);
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    slot.state = state::FORKING;
    slot.clone_ns = now_ns;
}

/// A signal was sent by the current thread, to itself if `to_current`.
#[inline(always)]
pub fn signal(ctx: *mut c_void, signal: u64, code: Option<i32>, to_current: bool) {
    if signal != SIGSEGV || !to_current || !code.is_some_and(is_forbidden) {
        return;
    }
    let Some(task) = traced() else { return };
    // What the processor told of the fault, before the signal was sent.
    let thread = read::current_address();
    let error: Option<u64> = read::kernel(thread + config!(task_error_code));
    let address: Option<u64> = read::kernel(thread + config!(task_fault_address));
    if let (Some(error), Some(address)) = (error, address)
        && error & config!(error_write) != 0
    {
        settle(task);
        events::forbidden(ctx, task);
        record(task, Kind::Denied, address, 1, 0);
    }
}

/// See [`super::settle`].
#[inline(always)]
pub fn settle(task: *mut TaskSlot) {
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    let was = slot.state;
    slot.state = state::NONE;
    if let Some(kind) = without_page(was, slot.flags) {
        // The mapping may be gone by now.
        record(task, kind, slot.address, 1, 0);
    }
    slot.flags = 0;
}
