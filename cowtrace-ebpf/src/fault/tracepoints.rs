//! A fault in the pieces that tracepoints show: its entry, allocations inside it, movements of the mm's counters, a
//! signal.

use core::ffi::c_void;

use cowtrace_abi::{Kind, TaskSlot, flag, state};

use super::{
    SIGSEGV, is_forbidden,
    system_calls::{in_page_fault, note_clone, populate, user_registers},
};
use crate::{
    config, events, latency,
    maps::{CALIBRATION, current_task},
    read, stacks,
    tally::record,
    walk::{self, Behind, Leaf, Tables},
};

const ERROR_PRESENT: u64 = 1 << 0;
const ERROR_WRITE: u64 = 1 << 1;

/// User addresses end below this bit; faults on kernel addresses are none of ours.
const KERNEL_HALF: u64 = 1 << 63;

/// `MMF_VM_MERGEABLE` of `mm->flags`: some of its pages may be KSM's, so that neighbours tell nothing.
const MMF_VM_MERGEABLE: u64 = 1 << 16;

/// Pages that share a page table are neighbours.
const NEAR_SHIFT: u32 = 21;

/// The frame number in a page-table entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// A page fault begins. `ip` is the faulting instruction.
#[inline(always)]
pub fn enter(ctx: *mut c_void, address: u64, ip: u64, error_code: u64, kernel_mode: bool) {
    if address & KERNEL_HALF != 0 {
        return;
    }
    let Some(task) = current_task() else { return };
    if stacks::raised_fault(task) {
        return;
    }
    settle(task, false);
    // SAFETY: points into TASKS; only the current thread writes to its slot.
    let slot = unsafe { &mut *task };
    // A fork that failed half-way leaves its begin here. It also leaves write-protected pages, so that a fault comes before
    // the next one.
    slot.clone_ns = 0;
    latency::begin(task);
    if error_code & ERROR_WRITE == 0 {
        return;
    }
    events::begin(task);
    slot.ip = ip;
    slot.address = address;
    slot.entry = 0;
    slot.flags = 0;
    if kernel_mode {
        slot.flags = flag::KERNEL_MODE;
        (slot.user_ip, slot.user_orig_ax) = user_registers();
    }
    slot.state = state::NOT_PRESENT;
    if error_code & ERROR_PRESENT == 0 {
        return;
    }
    slot.state = state::WRITE_PROTECT;
    slot.kind = Kind::Copy as u8;
    // SAFETY: BTF pointer, offset of the running kernel.
    let mm: *const c_void = unsafe { read::field(read::current(), config!(task_mm)) };
    // SAFETY: as above.
    let mm_flags: u64 = unsafe { read::field(mm, config!(mm_flags)) };
    // What is told at once has to be known at once, unless the fault's end tells.
    if (!events::wanted() || latency::wanted())
        && slot.near == (address >> NEAR_SHIFT) + 1
        && mm_flags & MMF_VM_MERGEABLE == 0
    {
        slot.flags |= flag::UNREAD;
        return;
    }
    slot.near = 0;
    // SAFETY: as above.
    let tables = unsafe {
        Tables { pgd: read::field(mm, config!(mm_pgd)), seq: read::field(mm, config!(mm_lock_seq)) }
    };
    let Some((leaf, behind)) = look_up(slot, Some(tables)) else { return };
    slot.entry = leaf.entry;
    if leaf.entry & walk::WRITABLE != 0 {
        slot.flags |= flag::SPURIOUS;
    }
    match behind {
        Behind::Page(kind) => slot.kind = kind as u8,
        Behind::FileHugetlb => slot.kind = Kind::Hugetlb as u8,
        Behind::LargeFile => {
            slot.state = state::NOT_PRESENT;
            slot.flags |= flag::LARGE_FILE;
        }
        Behind::HugeZero => {
            slot.state = state::NOT_PRESENT;
            slot.flags |= flag::HUGE_ZERO;
        }
        Behind::Unknown => {}
    }
    if slot.kind == Kind::Hugetlb as u8 {
        // Whether it is copied is seen when the fault is over.
        stacks::take(ctx, task);
    }
}

#[inline(always)]
fn look_up(slot: &mut TaskSlot, tables: Option<Tables>) -> Option<(Leaf, Behind)> {
    let calibration = CALIBRATION.get(0)?;
    if calibration.trusted == 0 {
        return None;
    }
    let leaf = walk::walk_cached(calibration, slot, tables?, slot.address)?;
    Some((leaf, walk::behind(calibration, leaf, slot.address)))
}

/// Decides what only the end of the fault could tell, and leaves the thread in [`state::NONE`]. `forked`: a fork has taken
/// the write permission from the entries meanwhile.
#[inline(always)]
pub fn settle(task: *mut TaskSlot, forked: bool) {
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    let was = slot.state;
    slot.state = state::NONE;
    let outcome = match was {
        state::FILE_FIRST_WRITE => Some(Kind::FileFirstWrite),
        state::COPIED if slot.kind == Kind::Copy as u8 => Some(Kind::Copy),
        state::COPIED => Some(Kind::FileAfterRead),
        state::WRITE_PROTECT => without_copy(slot, forked),
        state::NOT_PRESENT => first_write(slot),
        _ => None,
    };
    if let Some(kind) = outcome {
        record(task, kind, slot.address, 1, 0);
    }
}

/// What a first write was for which no page was allocated and no counter moved: nothing, unless hugetlb, whose pool and
/// counter are its own. A private page (an anonymous one) takes the write-protect path right away, which taskstats counts.
#[inline(always)]
fn first_write(slot: &mut TaskSlot) -> Option<Kind> {
    match look_up(slot, Tables::of_current())? {
        (_, Behind::Page(Kind::Hugetlb)) => Some(Kind::HugetlbReuse),
        _ => None,
    }
}

/// What a write-protect fault was in which no page was allocated.
#[inline(always)]
fn without_copy(slot: &mut TaskSlot, forked: bool) -> Option<Kind> {
    const COPY: u8 = Kind::Copy as u8;
    const FILE: u8 = Kind::FileAfterRead as u8;
    const HUGETLB: u8 = Kind::Hugetlb as u8;
    if slot.flags & flag::UNREAD != 0 {
        // Its neighbours are private anonymous pages; if it is not mapped any more, it was one as well.
        slot.near = 0;
        if let Some((leaf, Behind::Page(kind))) = look_up(slot, Tables::of_current()) {
            slot.entry = leaf.entry;
            slot.kind = kind as u8;
        } else {
            slot.entry = walk::WRITABLE;
        }
    }
    if slot.flags & flag::SPURIOUS != 0 || slot.entry == 0 {
        return None;
    }
    if slot.kind == HUGETLB || slot.flags & flag::KERNEL_MODE != 0 {
        let (leaf, _) = look_up(slot, Tables::of_current())?;
        if slot.kind == HUGETLB {
            // hugetlb pages come from a pool, without an allocation that could be seen: the frame tells.
            let copied = (leaf.entry ^ slot.entry) & FRAME != 0;
            return Some(if copied { Kind::Hugetlb } else { Kind::HugetlbReuse });
        }
        if !forked && leaf.entry & walk::WRITABLE == 0 {
            // A write that the mapping forbids raises no signal in kernel mode (the system call answers EFAULT).
            return None;
        }
    }
    match slot.kind {
        COPY => Some(Kind::Reuse),
        FILE => Some(Kind::Shared),
        _ => None,
    }
}

/// True while the current thread is still inside the fault that its slot describes.
#[inline(always)]
fn inside(ctx: *mut c_void, slot: &TaskSlot) -> bool {
    // The registers with which user mode was left. For a fault in user mode they are those of the fault, as long as it
    // lasts; a system call has its number where an exception has -1.
    let (ip, orig_ax) = user_registers();
    if slot.flags & flag::KERNEL_MODE == 0 {
        return ip == slot.ip && orig_ax == u64::MAX;
    }
    // A fault in kernel mode is shorter than the system call around it, which may go on and allocate, or even take the
    // same path for another process's memory (process_vm_writev).
    ip == slot.user_ip
        && orig_ax == slot.user_orig_ax
        && (slot.state != state::WRITE_PROTECT || in_page_fault(ctx))
}

/// A page was allocated by the current thread.
#[inline(always)]
pub fn allocate(ctx: *mut c_void, order: u32, gfp_flags: u64) {
    if gfp_flags & config!(gfp_movable) == 0 {
        return note_clone();
    }
    let Some(task) = current_task() else { return };
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    let now = slot.state;
    let open = matches!(
        now,
        state::WRITE_PROTECT | state::NOT_PRESENT | state::NOT_PRESENT_ALLOCATED | state::SWAPPED_IN
    );
    if !open || !inside(ctx, slot) {
        if order == 0 {
            populate(ctx, task, gfp_flags);
        }
        return;
    }
    let zeroed = gfp_flags & config!(gfp_zero) != 0;
    let outcome = match (now, order) {
        (state::WRITE_PROTECT, 0) if slot.flags & flag::UNREAD != 0 && !zeroed => {
            slot.state = state::COPIED;
            return stacks::take(ctx, task);
        }
        (state::WRITE_PROTECT, 0) if zeroed => {
            slot.state = state::ZEROED;
            return;
        }
        (state::WRITE_PROTECT, 0) => copied(slot.kind),
        (state::SWAPPED_IN, 0) => Kind::Copy,
        (state::NOT_PRESENT | state::NOT_PRESENT_ALLOCATED, 0) if zeroed => {
            if slot.flags & flag::HUGE_ZERO != 0 { Kind::Zero } else { Kind::Anon }
        }
        // The first page or block of a first write, or a block after one that could not be used: which counter moves
        // next tells what for. Later single pages are the page cache's.
        (state::NOT_PRESENT_ALLOCATED, 0) | (state::SWAPPED_IN, _) => return,
        _ => {
            slot.state = state::NOT_PRESENT_ALLOCATED;
            slot.order = order as u8;
            return;
        }
    };
    slot.state = state::NONE;
    if matches!(outcome, Kind::Copy) {
        slot.near = (slot.address >> NEAR_SHIFT) + 1;
    }
    if outcome.replaces_a_page() {
        stacks::take(ctx, task);
    }
    record(task, outcome, slot.address, 1, 0);
}

/// What was copied by a write-protect fault that allocated a page.
#[inline(always)]
fn copied(kind: u8) -> Kind {
    const KSM: u8 = Kind::Ksm as u8;
    const FILE: u8 = Kind::FileAfterRead as u8;
    match kind {
        KSM => Kind::Ksm,
        FILE => Kind::FileAfterRead,
        _ => Kind::Copy,
    }
}

/// A counter of `mm` moved (`kmem:rss_stat`).
#[inline(always)]
pub fn rss_moved(ctx: *mut c_void, mm: *const c_void, member: u64) {
    let Some(task) = current_task() else { return };
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    let now = slot.state;
    if now == state::NONE || now == state::WRITE_PROTECT || now == state::SWAPPED_IN {
        return;
    }
    let own: Option<u64> = read::kernel(read::current() as u64 + config!(task_mm));
    if own != Some(mm as u64) || !inside(ctx, slot) {
        return;
    }
    if now == state::COPIED {
        if member == config!(mm_filepages) || member == config!(mm_shmempages) {
            slot.kind = Kind::FileAfterRead as u8;
            slot.near = 0;
        }
    } else if member == config!(mm_swapents) {
        // The page came from swap; if it is shared, it is copied next.
        slot.state = state::SWAPPED_IN;
    } else if member == config!(mm_anonpages) {
        match now {
            state::NOT_PRESENT_ALLOCATED => settle_anonymous(ctx, task),
            state::ZEROED => {
                slot.state = state::NONE;
                stacks::take(ctx, task);
                record(task, Kind::Zero, slot.address, 1, 0);
            }
            _ => {}
        }
    } else if slot.flags & flag::LARGE_FILE != 0 {
        // The block that the page was in is unmapped; what comes in its place is still to be seen.
        slot.flags &= !flag::LARGE_FILE;
    } else {
        // A page of a shared mapping: no copy, no anonymous memory.
        slot.state = state::NONE;
    }
}

#[inline(always)]
fn settle_anonymous(ctx: *mut c_void, task: *mut TaskSlot) {
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    if slot.order == 0 {
        slot.state = state::FILE_FIRST_WRITE;
        stacks::take(ctx, task);
    } else {
        slot.state = state::NONE;
        record(task, Kind::Anon, slot.address, 1 << (slot.order & 31), 0);
    }
}

/// A signal was sent to `target` by the current thread.
#[inline(always)]
pub fn signal(signal: u64, info: u64, to_current: bool) {
    if signal != SIGSEGV || !to_current {
        return;
    }
    let Some(task) = current_task() else { return };
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    if slot.state == state::NONE {
        return;
    }
    // Not a pointer to read directly: senders inside the kernel may pass 0 or 1.
    if read::kernel(info + config!(siginfo_si_code)).is_some_and(is_forbidden) {
        slot.state = state::NONE;
        record(task, Kind::Denied, slot.address, 1, 0);
    }
}
