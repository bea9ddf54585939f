//! Beginning to trace threads that already run, at user space's word.
//!
//! User space finds threads in /proc while they fork and exit. A process's slot is held until all its threads were looked
//! at, so that it cannot be given back in between; a thread that has met its exit before it got its slot is told by user
//! space, which sees that it is gone.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use cowtrace_abi::{Adoption, COMM_LEN, Shared, adoption};

use crate::{
    atomic::{Atomics, add},
    life::{forget, leave, take},
    maps::{FREE_PROCS, FREE_TASKS, INDEX, PROCS, TASKS, shared, task_index},
};

/// Does what user space asks for. False if there was nothing to do, or no room, which is counted.
#[inline(always)]
pub fn adopt<A: Atomics>(request: &Adoption) -> bool {
    let Some(shared) = shared() else { return false };
    let (tid, index) = (request.tid as u32, request.proc_index as u32);
    if request.what == adoption::PROCESS {
        // SAFETY: points into SHARED; user space asks for one thing at a time.
        unsafe { (*shared).adopted_proc = 0 };
    }
    match request.what {
        adoption::PROCESS if task_index(tid).is_none() => process::<A>(request, shared),
        adoption::THREAD if task_index(tid).is_none() => {
            let Some(process) = PROCS.get_ptr_mut(index) else { return false };
            thread::<A>(tid, index, shared) && {
                // SAFETY: points into PROCS; the slot is held.
                unsafe { add(&raw mut (*process).threads, 1) };
                true
            }
        }
        adoption::GONE => gone::<A>(tid),
        adoption::RELEASE => leave::<A>(index, 0),
        _ => false,
    }
}

#[inline(always)]
fn gone<A: Atomics>(tid: u32) -> bool {
    let Some(index) = task_index(tid) else { return false };
    let Some(task) = TASKS.get_ptr_mut(index) else { return false };
    forget::<A>(tid, index, task, 0)
}

#[inline(always)]
fn process<A: Atomics>(request: &Adoption, shared: *mut Shared) -> bool {
    // SAFETY: points into SHARED.
    let proc_index = take::<A>(&FREE_PROCS, unsafe { &raw mut (*shared).next_proc });
    let Some(process) = PROCS.get_ptr_mut(proc_index) else {
        // SAFETY: points into SHARED.
        unsafe { add(&raw mut (*shared).lost_tasks, 1) };
        return false;
    };
    // SAFETY: a slot of PROCS that nobody else uses yet.
    unsafe {
        let p = &mut *process;
        p.take_over(A::fetch_add(&raw mut (*shared).next_id, 1) + 1, bpf_ktime_get_ns());
        p.tgid = request.tgid as u32;
        p.ppid = request.ppid as u32;
        // The thread, and user space, which holds the slot.
        p.threads = 2;
        p.comm = core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>(request.comm);
        add(&raw mut (*shared).live, 1);
    }
    if !thread::<A>(request.tid as u32, proc_index, shared) {
        // SAFETY: as above; nobody uses the slot.
        unsafe {
            (*process).id = 0;
            add(&raw mut (*shared).live, u64::MAX);
        }
        let _ = FREE_PROCS.push(proc_index, 0);
        return false;
    }
    // SAFETY: points into SHARED.
    unsafe { (*shared).adopted_proc = proc_index.into() };
    true
}

#[inline(always)]
fn thread<A: Atomics>(tid: u32, proc_index: u32, shared: *mut Shared) -> bool {
    // SAFETY: points into SHARED.
    let index = take::<A>(&FREE_TASKS, unsafe { &raw mut (*shared).next_task });
    let Some(task) = TASKS.get_ptr_mut(index) else {
        // SAFETY: points into SHARED.
        unsafe { add(&raw mut (*shared).lost_tasks, 1) };
        return false;
    };
    // SAFETY: points into TASKS; the slot is not in use, as no thread's index is its.
    unsafe {
        (*task).take_over(proc_index, tid);
        (*task).adopted = 1;
    }
    INDEX.set(tid, index, 0).is_ok()
}
