//! How long the faults took that copied or replaced a page.
//!
//! A fault's end is told by the kernel's software event for faults that were solved, which is raised when everything else is
//! done. By then the outcome is known, so that nothing is left for the thread's next fault to tell.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use cowtrace_abi::{CowTimes, Kind, ProcSlot, TIME_BUCKETS, TaskSlot, Times, moment, tag, time_bucket};

use crate::{
    atomic::add,
    config, events, fault,
    maps::{EVENTS, PROCS, TASKS, TIMES, current_tid, shared, task_index},
    tally::wake_flags,
};

/// Whether times are asked for.
#[inline(always)]
pub fn wanted() -> bool {
    config!(times) != 0
}

/// A fault of the current thread begins. The last one may have had no end: those that failed, and writes without a page fault.
#[inline(always)]
pub fn begin(task: *mut TaskSlot) {
    if wanted() {
        events::close(task, 0);
        // SAFETY: `task` points into TASKS, and only the current thread writes to its slot.
        unsafe {
            (*task).begin_ns = 0;
            (*task).replaced = 0;
        }
    }
}

/// The outcome of the present fault is counted.
#[inline(always)]
pub fn note(task: *mut TaskSlot, kind: Kind) {
    if wanted() && kind.replaces_a_page() {
        // SAFETY: as above.
        unsafe { (*task).replaced = 1 };
    }
}

/// A fault of the current thread is solved.
#[inline(always)]
pub fn end() {
    let Some(task) = task_index(current_tid()).and_then(|index| TASKS.get_ptr_mut(index)) else { return };
    // SAFETY: points into TASKS.
    let begin_ns = unsafe { (*task).begin_ns };
    if begin_ns == 0 {
        return;
    }
    // SAFETY: no preconditions.
    let took_ns = unsafe { bpf_ktime_get_ns() } - begin_ns;
    fault::settle(task, false);
    // SAFETY: points into TASKS.
    let (replaced, proc_index) = unsafe {
        (*task).begin_ns = 0;
        (core::mem::take(&mut (*task).replaced), (*task).proc_index)
    };
    if replaced != 0
        && let Some(times) = TIMES.get_ptr_mut(proc_index)
    {
        let bucket = time_bucket(took_ns) as usize & (TIME_BUCKETS - 1);
        // SAFETY: points into TIMES; the mask keeps the bucket in bounds.
        unsafe {
            add(&raw mut (*times).count, 1);
            add(&raw mut (*times).total_ns, took_ns);
            add(&raw mut (*times).buckets[bucket], 1);
            // Of two threads at the same moment, one may be overwritten.
            if took_ns > (*times).max_ns {
                (*times).max_ns = took_ns;
            }
        }
    }
    events::close(task, took_ns);
}

/// A process was forked.
#[inline(always)]
pub fn forked(child: &ProcSlot) {
    if wanted() {
        tell(child.id, moment::FORKED, child.parent_index);
    }
}

/// A process becomes another program, or ends. `index`: its own.
#[inline(always)]
pub fn unshared(process: &ProcSlot, index: u32, own: u64) {
    if !wanted() {
        return;
    }
    tell(process.id, own, index);
    if PROCS.get(process.parent_index).is_some_and(|parent| parent.id == process.forked_from) {
        tell(process.id, moment::UNSHARED, process.parent_index);
    }
}

/// Sends the times of the process with this index.
#[inline(never)]
fn tell(id: u64, moment: u64, index: u32) {
    let (Some(times), Some(shared)) = (TIMES.get_ptr(index), shared()) else { return };
    let Some(mut event) = EVENTS.reserve::<Times>(0) else {
        // SAFETY: points into SHARED.
        return unsafe { add(&raw mut (*shared).lost_events, 1) };
    };
    let record = event.as_mut_ptr();
    // SAFETY: points into the reserved record, which is written whole; the helper fills what it is given, or clears it.
    unsafe {
        (*record).tag = tag::TIMES;
        (*record).at_ns = bpf_ktime_get_ns();
        (*record).id = id;
        (*record).moment = moment;
        let to = (&raw mut (*record).times).cast::<c_void>();
        bpf_probe_read_kernel(to, size_of::<CowTimes>() as u32, times.cast());
    }
    event.submit(wake_flags());
}

/// Makes the slot that of no process.
#[inline(always)]
pub fn clear(index: u32) {
    if wanted()
        && let Some(times) = TIMES.get_ptr_mut(index)
    {
        clear_all(times);
    }
}

#[inline(never)]
fn clear_all(times: *mut CowTimes) {
    // SAFETY: points into TIMES, to a slot that nobody else uses. Volatile, as there is no memset to call.
    unsafe {
        (&raw mut (*times).count).write_volatile(0);
        (&raw mut (*times).total_ns).write_volatile(0);
        (&raw mut (*times).max_ns).write_volatile(0);
        for bucket in 0..TIME_BUCKETS {
            (&raw mut (*times).buckets[bucket]).write_volatile(0);
        }
    }
}
