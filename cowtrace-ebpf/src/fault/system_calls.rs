//! What system calls tell of a fault: the one around it, one that populates memory without a fault, one that forks.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_ktime_get_ns, bpf_task_pt_regs};
use cowtrace_abi::{Kind, TaskSlot, flag, state};

use super::tracepoints::settle;
use crate::{
    config, events,
    maps::{CALIBRATION, current_task},
    read, stacks,
    tally::record,
};

/// System calls that populate memory of their caller, on x86-64: `MADV_POPULATE_WRITE`, and locking.
const SYS_MADVISE: u64 = 28;
const SYS_MLOCK: u64 = 149;
const SYS_MLOCK2: u64 = 325;

/// System calls that create processes, on x86-64: clone, fork, vfork and clone3.
const SYS_CLONE: u64 = 56;
const SYS_VFORK: u64 = 58;
const SYS_CLONE3: u64 = 435;

/// Kernel stack entries searched; the page-fault handler is the fifteenth or so above an allocation.
const STACK_DEPTH: usize = 32;

/// `ip` and `orig_ax` of the user mode that the current thread left last.
#[inline(always)]
pub fn user_registers() -> (u64, u64) {
    // SAFETY: BTF pointers and offsets of the running kernel.
    unsafe {
        let regs = bpf_task_pt_regs(read::current().cast_mut().cast()) as *const c_void;
        (read::field(regs, config!(regs_ip)), read::field(regs, config!(regs_orig_ax)))
    }
}

#[inline(always)]
pub fn in_page_fault(ctx: *mut c_void) -> bool {
    let Some(calibration) = CALIBRATION.get(0) else { return false };
    on_stack(ctx, calibration.page_fault_start, calibration.page_fault_end)
}

/// Whether a return address on the kernel stack lies in `start..end`.
#[inline(never)]
fn on_stack(ctx: *mut c_void, start: u64, end: u64) -> bool {
    let mut stack = [0u64; STACK_DEPTH];
    // SAFETY: the helper writes at most the size given.
    let bytes = unsafe { bpf_get_stack(ctx, stack.as_mut_ptr().cast(), size_of_val(&stack) as u32, 0) };
    bytes > 0 && stack.iter().any(|&frame| frame >= start && frame < end)
}

/// A page was allocated outside of any fault. Only system calls that populate memory of the caller are looked at: they
/// take the write-protect path for pages that are mapped but not yet the caller's own, without a page fault.
#[inline(always)]
pub fn populate(ctx: *mut c_void, task: *mut TaskSlot, gfp_flags: u64) {
    let (ip, orig_ax) = user_registers();
    if !matches!(orig_ax, SYS_MADVISE | SYS_MLOCK | SYS_MLOCK2) {
        return;
    }
    settle(task, false);
    let Some(calibration) = CALIBRATION.get(0) else { return };
    if !on_stack(ctx, calibration.do_wp_page_start, calibration.do_wp_page_end) {
        return;
    }
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    // SAFETY: BTF pointers and offsets of the running kernel.
    let argument: u64 = unsafe {
        let regs = bpf_task_pt_regs(read::current().cast_mut().cast()) as *const c_void;
        read::field(regs, config!(regs_di))
    };
    // The range that the call was given: its mapping is known, which of its pages is not.
    slot.address = argument;
    slot.ip = 0;
    events::begin(task);
    slot.flags = flag::KERNEL_MODE;
    (slot.user_ip, slot.user_orig_ax) = (ip, orig_ax);
    stacks::take(ctx, task);
    if gfp_flags & config!(gfp_zero) != 0 {
        return record(task, Kind::Zero, slot.address, 1, 0);
    }
    slot.kind = Kind::Copy as u8;
    slot.state = state::COPIED;
}

/// A page for the kernel's own use was allocated. The first one that a fork takes is for the child's page tables: copying
/// them begins.
#[inline(always)]
pub fn note_clone() {
    let Some(task) = current_task() else { return };
    // SAFETY: points into TASKS.
    let slot = unsafe { &mut *task };
    if slot.clone_ns == 0 && matches!(user_registers().1, SYS_CLONE..=SYS_VFORK | SYS_CLONE3) {
        // SAFETY: no preconditions.
        slot.clone_ns = unsafe { bpf_ktime_get_ns() };
    }
}
