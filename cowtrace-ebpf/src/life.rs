//! Following processes and threads from fork to exit, so that no descendant is missed.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::{bpf_get_current_comm, bpf_ktime_get_ns, generated::bpf_probe_read_user},
    maps::Queue,
};
use aya_log_ebpf::{debug, warn};
use cowtrace_abi::{ARGS_LEN, CLONE_THREAD, Exec, Exit, Fork, KINDS, ProcSlot, Shared, tag};

use crate::{
    atomic::{add, fetch_add},
    config, fault,
    maps::{EVENTS, FREE_PROCS, FREE_TASKS, INDEX, PROCS, TASKS, current_tid, shared, task_index},
    read,
    tally::{flush, wake_flags},
};

/// Takes an index: one given back, else a new one. The caller's array look-up bounds it.
#[inline(always)]
fn take(free: &Queue<u32>, next: *mut u64) -> u32 {
    match free.pop() {
        Ok(Some(index)) => index,
        // SAFETY: points into SHARED.
        _ => unsafe { fetch_add(next, 1) as u32 + 1 },
    }
}

#[inline(always)]
fn parent_counts(process: &ProcSlot) -> [u64; KINDS] {
    match PROCS.get(process.parent_index) {
        Some(parent) if parent.id == process.forked_from => parent.counts,
        _ => [0; KINDS],
    }
}

/// The current thread created `child` (`task:task_newtask`).
#[inline(always)]
pub fn fork<C: EbpfContext>(ctx: &C, child: *const c_void, clone_flags: u64) {
    let Some(parent) = task_index(current_tid()).and_then(|index| TASKS.get_ptr_mut(index)) else { return };
    let Some(shared) = shared() else { return };
    fault::settle(parent, true);
    flush(parent);
    // SAFETY: BTF pointer, offsets of the running kernel.
    let (tid, tgid): (u32, u32) =
        unsafe { (read::field(child, config!(task_pid)), read::field(child, config!(task_tgid))) };
    // SAFETY: points into TASKS.
    let parent_proc = unsafe { (*parent).proc_index };
    let thread = clone_flags & CLONE_THREAD != 0;
    // SAFETY: points into SHARED.
    let next_proc = unsafe { &raw mut (*shared).next_proc };
    let proc_index = if thread { parent_proc } else { take(&FREE_PROCS, next_proc) };
    // SAFETY: points into SHARED.
    let index = take(&FREE_TASKS, unsafe { &raw mut (*shared).next_task });
    let (Some(task), Some(process)) = (TASKS.get_ptr_mut(index), PROCS.get_ptr_mut(proc_index)) else {
        // SAFETY: points into SHARED.
        unsafe { add(&raw mut (*shared).lost_tasks, 1) };
        // One of the two may have been there.
        if TASKS.get(index).is_some() {
            let _ = FREE_TASKS.push(index, 0);
        } else if !thread && PROCS.get(proc_index).is_some() {
            let _ = FREE_PROCS.push(proc_index, 0);
        }
        warn!(ctx, "no slot for thread {} of process {}: it is not counted", tid, tgid);
        return;
    };
    if thread {
        // SAFETY: points into PROCS.
        unsafe { add(&raw mut (*process).threads, 1) };
    } else {
        born(process, parent_proc, shared, child, tgid, clone_flags);
        debug!(ctx, "fork: process {}", tgid);
    }
    // SAFETY: the slot is not in use: the child has not run yet.
    unsafe { (*task).take_over(proc_index, tid) };
    let _ = INDEX.set(tid, index, 0);
}

#[inline(always)]
fn born(
    process: *mut ProcSlot,
    parent_proc: u32,
    shared: *mut Shared,
    child: *const c_void,
    tgid: u32,
    clone_flags: u64,
) {
    let Some(parent) = PROCS.get(parent_proc) else { return };
    // SAFETY: a slot of PROCS that nobody else uses yet; BTF pointers and offsets of the running kernel.
    unsafe {
        let id = fetch_add(&raw mut (*shared).next_id, 1) + 1;
        let real_parent: u64 = read::kernel(child as u64 + config!(task_real_parent)).unwrap_or(0);
        let mm: u64 = read::kernel(child as u64 + config!(task_mm)).unwrap_or(0);
        let p = &mut *process;
        p.id = id;
        p.forked_from = parent.id;
        p.parent_index = parent_proc;
        p.start_ns = bpf_ktime_get_ns();
        p.end_ns = 0;
        p.counts = [0; KINDS];
        p.anon_pages = 0;
        p.tgid = tgid;
        p.ppid = read::kernel(real_parent + config!(task_tgid)).unwrap_or(0);
        p.threads = 1;
        p.exit_code = 0;
        p.comm = bpf_get_current_comm().unwrap_or_default();
        add(&raw mut (*shared).live, 1);
        let Some(mut event) = EVENTS.reserve::<Fork>(0) else {
            return add(&raw mut (*shared).lost_events, 1);
        };
        event.write(Fork {
            tag: tag::FORK,
            at_ns: p.start_ns,
            id,
            forked_from: parent.id,
            clone_flags,
            page_table_bytes: read::kernel(mm + config!(mm_pgtables_bytes)).unwrap_or(0),
            parent_counts: parent.counts,
            tgid,
            ppid: p.ppid,
            parent_tgid: parent.tgid,
            reserved: 0,
            comm: p.comm,
        });
        event.submit(wake_flags());
    }
}

/// The current thread runs another program; `old_tid` is its id before (`sched:sched_process_exec`).
#[inline(always)]
pub fn exec(old_tid: u32) {
    let tid = current_tid();
    let Some(index) = task_index(old_tid) else { return };
    let Some(task) = TASKS.get_ptr_mut(index) else { return };
    if old_tid != tid {
        // exec by a thread other than the leader: it took over the leader's id.
        let _ = INDEX.set(old_tid, 0, 0);
        let _ = INDEX.set(tid, index, 0);
        // SAFETY: points into TASKS.
        unsafe { (*task).tid = tid };
    }
    fault::settle(task, false);
    flush(task);
    // SAFETY: points into TASKS. The address space is a new one.
    unsafe { (*task).cached_gib = 0 };
    // SAFETY: points into TASKS.
    let Some(process) = PROCS.get_ptr_mut(unsafe { (*task).proc_index }) else { return };
    let Some(mut event) = EVENTS.reserve::<Exec>(0) else {
        if let Some(shared) = shared() {
            // SAFETY: points into SHARED.
            unsafe { add(&raw mut (*shared).lost_events, 1) };
        }
        return;
    };
    let record = event.as_mut_ptr();
    // SAFETY: points into PROCS and into the reserved record, which is written whole; BTF pointers and offsets.
    unsafe {
        (*process).comm = bpf_get_current_comm().unwrap_or_default();
        (*record).tag = tag::EXEC;
        (*record).at_ns = bpf_ktime_get_ns();
        (*record).id = (*process).id;
        (*record).parent_counts = parent_counts(&*process);
        (*record).counts = (*process).counts;
        (*record).comm = (*process).comm;
        let mm: u64 = read::kernel(read::current() as u64 + config!(task_mm)).unwrap_or(0);
        let start: u64 = read::kernel(mm + config!(mm_arg_start)).unwrap_or(0);
        let end: u64 = read::kernel(mm + config!(mm_arg_end)).unwrap_or(start);
        (*record).args_len = end - start;
        let length = (end - start).min(ARGS_LEN as u64) as u32;
        let args = (&raw mut (*record).args).cast::<c_void>();
        if bpf_probe_read_user(args, length, start as *const c_void) != 0 {
            (*record).args_len = 0;
        }
    }
    event.submit(wake_flags());
}

/// The current thread exits (`sched:sched_process_exit`).
#[inline(always)]
pub fn exit<C: EbpfContext>(ctx: &C) {
    let tid = current_tid();
    let Some(index) = task_index(tid) else { return };
    let Some(task) = TASKS.get_ptr_mut(index) else { return };
    fault::settle(task, false);
    flush(task);
    let _ = INDEX.set(tid, 0, 0);
    // SAFETY: points into TASKS.
    let proc_index = unsafe { (*task).proc_index };
    let _ = FREE_TASKS.push(index, 0);
    let Some(process) = PROCS.get_ptr_mut(proc_index) else { return };
    // SAFETY: points into PROCS.
    let before = unsafe { fetch_add(&raw mut (*process).threads, u64::MAX) };
    if before == 1 {
        // SAFETY: as above; this was the last thread, nobody else uses the slot.
        let gone = unsafe { report_exit(process) };
        // A record that found no room leaves the slot in use: user space reads it there at the end.
        if gone {
            // SAFETY: as above.
            unsafe { (*process).id = 0 };
            let _ = FREE_PROCS.push(proc_index, 0);
        } else {
            warn!(ctx, "the exit of process {} found no room in the ring buffer", tid);
        }
    }
}

#[inline(always)]
unsafe fn report_exit(process: *mut ProcSlot) -> bool {
    let Some(shared) = shared() else { return false };
    // SAFETY: see the caller; BTF pointers and offsets of the running kernel.
    unsafe {
        (*process).end_ns = bpf_ktime_get_ns();
        (*process).exit_code = read::field(read::current(), config!(task_exit_code));
        let before = fetch_add(&raw mut (*shared).live, u64::MAX);
        let Some(mut event) = EVENTS.reserve::<Exit>(0) else {
            add(&raw mut (*shared).lost_events, 1);
            return false;
        };
        let record = event.as_mut_ptr();
        (*record).tag = tag::EXIT;
        (*record).parent_counts = parent_counts(&*process);
        (*record).process = *process;
        // The last exit ends the session: user space waits for it.
        let flags = if before == 1 { u64::from(BPF_RB_FORCE_WAKEUP) } else { wake_flags() };
        event.submit(flags);
    }
    true
}
