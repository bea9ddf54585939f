//! A record for each fault, for those who asked for that.
//!
//! What a record tells of a fault's begin (time, instruction) is taken down when it begins; the record is written when the
//! outcome is counted, which may be at the thread's next fault.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_F_USER_STACK,
    helpers::generated::{bpf_get_stack, bpf_ktime_get_ns},
};
use cowtrace_abi::{Fault, Kind, ProcSlot, TaskSlot, flag, mode, tag};

use crate::{
    atomic::add,
    config, latency,
    maps::{EVENTS, OPEN_FAULTS, shared, task_index},
    tally::{bounds, wake_flags},
};

/// `FAULT_FLAG_USER` of `include/linux/mm_types.h`; the same since 3.12.
const FAULT_FLAG_USER: u32 = 1 << 6;

/// Whether each fault is to be told.
#[inline(always)]
pub fn wanted() -> bool {
    config!(events) != 0
}

/// A fault of the current thread begins, or what is counted like one.
#[inline(always)]
pub fn begin(task: *mut TaskSlot) {
    if wanted() || latency::wanted() {
        // SAFETY: `task` points into TASKS, and only the current thread writes to its slot; the helper has no preconditions.
        unsafe { (*task).begin_ns = bpf_ktime_get_ns() };
    }
}

/// Function backends: a fault begins, with these flags (`enum fault_flag`).
#[inline(always)]
pub fn begin_in_function(ctx: *mut c_void, task: *mut TaskSlot, fault_flags: u32) {
    begin(task);
    if wanted() {
        let mode = if fault_flags & FAULT_FLAG_USER != 0 { mode::USER } else { mode::KERNEL };
        note_origin(ctx, task, mode);
    }
}

/// Function backends: something goes on that is no page fault, and is counted like one.
#[inline(always)]
pub fn outside_of_faults(ctx: *mut c_void, task: *mut TaskSlot) {
    if wanted() {
        begin(task);
        note_origin(ctx, task, mode::KERNEL);
    }
}

/// Function backends: the present fault ends in a signal, which only writes in user mode do.
#[inline(always)]
pub fn forbidden(ctx: *mut c_void, task: *mut TaskSlot) {
    if wanted() {
        begin(task);
        note_origin(ctx, task, mode::USER);
    }
}

/// The instruction at which the current thread left user mode: the first frame of its user stack.
#[inline(never)]
fn note_origin(ctx: *mut c_void, task: *mut TaskSlot, mode: u8) {
    let mut ip = 0u64;
    // SAFETY: the helper writes at most the size given; `task` points into TASKS.
    unsafe {
        let got =
            bpf_get_stack(ctx, (&raw mut ip).cast(), size_of::<u64>() as u32, u64::from(BPF_F_USER_STACK));
        (*task).ip = if got > 0 { ip } else { 0 };
        (*task).mode = mode;
    }
}

/// Tells of one fault that is counted.
#[inline(always)]
pub fn tell(task: *mut TaskSlot, process: *mut ProcSlot, kind: Kind, address: u64, pages: u64, vma: u64) {
    // The verifier removes a branch on a switch, but not a shift by what it does not know.
    if wanted() && config!(events) >> kind as u64 & 1 != 0 {
        send(task, process, kind as u64 | pages << 8, address, vma);
    }
    // What is counted next is part of another fault, unless a huge page was split for this one. Where the fault's end is told, it
    // is what ends it.
    if wanted() && !latency::wanted() && !matches!(kind, Kind::HugeSplit) {
        // SAFETY: `task` points into TASKS.
        unsafe { (*task).begin_ns = 0 };
    }
}

/// `what`: the kind in the low 8 bits, above it how many pages.
#[inline(never)]
fn send(task: *mut TaskSlot, process: *mut ProcSlot, what: u64, address: u64, vma: u64) {
    if latency::wanted() {
        close(task, 0);
        // SAFETY: `task` points into TASKS.
        let index = task_index(unsafe { (*task).tid });
        let Some(open) = index.and_then(|index| OPEN_FAULTS.get_ptr_mut(index)) else { return };
        // SAFETY: points into OPEN_FAULTS, to what is the current thread's own; `task` as above.
        unsafe {
            *open = record_of(task, process, what, address, vma);
            (*task).open = 1;
        }
        return;
    }
    match EVENTS.reserve::<Fault>(0) {
        Some(mut event) => {
            event.write(record_of(task, process, what, address, vma));
            event.submit(wake_flags());
        }
        None => lose(),
    }
}

#[inline(always)]
fn lose() {
    if let Some(shared) = shared() {
        // SAFETY: points into SHARED.
        unsafe { add(&raw mut (*shared).lost_faults, 1) };
    }
}

/// Sends the record that waits for the end of a fault, if there is one. `took_ns`: how long the fault took, 0 if that is not known.
#[inline(always)]
pub fn close(task: *mut TaskSlot, took_ns: u64) {
    // SAFETY: `task` points into TASKS.
    if wanted() && latency::wanted() && unsafe { core::mem::take(&mut (*task).open) } != 0 {
        close_now(task, took_ns);
    }
}

#[inline(never)]
fn close_now(task: *mut TaskSlot, took_ns: u64) {
    // SAFETY: `task` points into TASKS.
    let index = task_index(unsafe { (*task).tid });
    let Some(open) = index.and_then(|index| OPEN_FAULTS.get_ptr_mut(index)) else { return };
    // SAFETY: points into OPEN_FAULTS, to what is the current thread's own.
    let open = unsafe {
        (*open).took_ns = took_ns;
        &*open
    };
    if EVENTS.output::<Fault>(open, wake_flags()).is_err() {
        lose();
    }
}

#[inline(always)]
fn record_of(task: *mut TaskSlot, process: *mut ProcSlot, what: u64, address: u64, vma: u64) -> Fault {
    // SAFETY: `task` points into TASKS, and only the current thread writes to its slot; `process` points into PROCS.
    let (slot, process) = unsafe { (&*task, &*process) };
    let kind = what as u8;
    // Inside of a fault or not.
    let split = kind == Kind::HugeSplit as u8;
    let (ip, mode) = if split { (0, mode::UNKNOWN) } else { origin(slot) };
    let (vma_start, vma_end) = bounds(vma);
    Fault {
        tag: tag::FAULT,
        id: process.id,
        // SAFETY: no preconditions.
        at_ns: if slot.begin_ns != 0 && !split { slot.begin_ns } else { unsafe { bpf_ktime_get_ns() } },
        took_ns: 0,
        address,
        ip,
        pages: what >> 8,
        vma_start,
        vma_end,
        tid: slot.tid,
        execs: process.execs as u32,
        kind,
        mode,
        remote: u8::from(slot.flags & flag::REMOTE != 0),
        reserved: [0; 5],
    }
}

/// The instruction of user mode, and who wrote.
#[inline(always)]
fn origin(slot: &TaskSlot) -> (u64, u8) {
    if config!(functions) != 0 {
        (slot.ip, slot.mode)
    } else if slot.flags & flag::KERNEL_MODE != 0 {
        (slot.user_ip, mode::KERNEL)
    } else {
        (slot.ip, mode::USER)
    }
}
