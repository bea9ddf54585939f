//! Following processes and threads from fork to exit, so that no descendant is missed.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::{bpf_get_current_comm, bpf_ktime_get_ns, generated::bpf_probe_read_user},
    maps::Queue,
};
use aya_log_ebpf::{debug, warn};
use cowtrace_abi::{
    ARGS_LEN, CLONE_THREAD, CLONE_VFORK, CLONE_VM, Exec, Exit, Fork, KINDS, ProcSlot, Renamed, Shared,
    TaskSlot, moment, tag,
};

use crate::{
    atomic::{Atomics, add},
    config, fault, latency,
    maps::{EVENTS, FREE_PROCS, FREE_TASKS, INDEX, PROCS, TASKS, current_tid, shared, task_index},
    read,
    tally::{flush, next_epoch, wake_flags},
};

/// Takes an index: one given back, else a new one. The caller's array look-up bounds it.
#[inline(always)]
pub fn take<A: Atomics>(free: &Queue<u32>, next: *mut u64) -> u32 {
    match free.pop() {
        Ok(Some(index)) => index,
        // SAFETY: points into SHARED.
        _ => unsafe { A::fetch_add(next, 1) as u32 + 1 },
    }
}

#[inline(always)]
fn parent_counts(process: &ProcSlot) -> [u64; KINDS] {
    match PROCS.get(process.parent_index) {
        Some(parent) if parent.id == process.forked_from => parent.counts,
        _ => [0; KINDS],
    }
}

/// A process has a memory of its own from here on: [`ProcSlot::epoch`] of the one that forked it, if that is traced and they
/// may have shared pages, else 0. Its counts are to be read right after that: what it copies in between (on another CPU) is in
/// the counts, and not in the epoch.
///
/// # Safety
/// Points into PROCS.
#[inline(always)]
unsafe fn unshare(process: *mut ProcSlot) -> u64 {
    // SAFETY: see the caller.
    let (shared, parent_index, parent_id) = unsafe {
        (core::mem::take(&mut (*process).shares_pages), (*process).parent_index, (*process).forked_from)
    };
    match PROCS.get_ptr_mut(parent_index) {
        // SAFETY: points into PROCS.
        Some(parent) if shared == 1 && unsafe { (*parent).id == parent_id } => next_epoch(parent),
        _ => 0,
    }
}

/// The flags with which `child` was created by the current thread, as far as they matter here: told by what it shares.
#[inline(always)]
pub fn clone_flags(child: u64) -> u64 {
    let same =
        |field: u64| read::kernel::<u64>(child + field) == read::kernel(read::current_address() + field);
    let mut flags = 0;
    if same(config!(task_mm)) {
        flags |= CLONE_VM;
    }
    if same(config!(task_group_leader)) {
        flags |= CLONE_THREAD;
    }
    if read::kernel::<u64>(child + config!(task_vfork_done)).is_some_and(|completion| completion != 0) {
        flags |= CLONE_VFORK;
    }
    flags
}

/// The current thread created `child`, a `struct task_struct` (`task:task_newtask`, or `wake_up_new_task`).
#[inline(always)]
pub fn fork<A: Atomics, C: EbpfContext>(ctx: &C, child: u64, clone_flags: u64) {
    let Some(parent) = task_index(current_tid()).and_then(|index| TASKS.get_ptr_mut(index)) else { return };
    let Some(shared) = shared() else { return };
    // SAFETY: points into TASKS.
    let clone_ns = unsafe { core::mem::take(&mut (*parent).clone_ns) };
    fault::settle(parent, true);
    flush(parent);
    let (Some(tid), Some(tgid)) =
        (read::kernel::<u32>(child + config!(task_pid)), read::kernel::<u32>(child + config!(task_tgid)))
    else {
        return;
    };
    // SAFETY: points into TASKS.
    let parent_proc = unsafe { (*parent).proc_index };
    let known = task_index(tid).and_then(|index| TASKS.get_ptr_mut(index));
    // SAFETY: points into TASKS.
    if known.is_some_and(|task| unsafe { core::mem::take(&mut (*task).adopted) == 1 && (*task).tid == tid }) {
        // User space has met it in /proc before this moment.
        return;
    }
    let thread = clone_flags & CLONE_THREAD != 0;
    // SAFETY: points into SHARED.
    let next_proc = unsafe { &raw mut (*shared).next_proc };
    let proc_index = if thread { parent_proc } else { take::<A>(&FREE_PROCS, next_proc) };
    // SAFETY: points into SHARED.
    let index = take::<A>(&FREE_TASKS, unsafe { &raw mut (*shared).next_task });
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
        born::<A>(process, parent_proc, shared, &Child { task: child, tgid, clone_flags, clone_ns });
        debug!(ctx, "fork: process {}", tgid);
    }
    // SAFETY: the slot is not in use: the child has not run yet.
    unsafe { (*task).take_over(proc_index, tid) };
    let _ = INDEX.set(tid, index, 0);
}

/// The process id that a process has in its own PID namespace; 0 if that is not known.
#[inline(always)]
fn ns_tgid(task: u64) -> u32 {
    if config!(task_thread_pid) == 0 {
        return 0;
    }
    let pid: u64 = read::kernel(task + config!(task_thread_pid)).unwrap_or(0);
    let level: u32 = read::kernel(pid + config!(pid_level)).unwrap_or(0);
    read::kernel(pid + config!(pid_numbers) + u64::from(level) * config!(upid_size)).unwrap_or(0)
}

/// A new process.
struct Child {
    /// Its `struct task_struct`.
    task: u64,
    tgid: u32,
    clone_flags: u64,
    /// When its creation began; 0 if not known.
    clone_ns: u64,
}

#[inline(always)]
fn born<A: Atomics>(process: *mut ProcSlot, parent_proc: u32, shared: *mut Shared, child: &Child) {
    let Some(parent) = PROCS.get_ptr_mut(parent_proc) else { return };
    // SAFETY: a slot of PROCS that nobody else uses yet, and the forking process's.
    unsafe {
        let id = A::fetch_add(&raw mut (*shared).next_id, 1) + 1;
        let real_parent: u64 = read::kernel(child.task + config!(task_real_parent)).unwrap_or(0);
        let mm: u64 = read::kernel(child.task + config!(task_mm)).unwrap_or(0);
        let p = &mut *process;
        p.take_over(id, bpf_ktime_get_ns());
        p.forked_from = (*parent).id;
        p.shares_pages = u64::from(child.clone_flags & CLONE_VM == 0);
        let parent_epoch = if p.shares_pages == 1 { next_epoch(parent) } else { 0 };
        p.parent_index = parent_proc;
        p.tgid = child.tgid;
        p.ppid = read::kernel(real_parent + config!(task_tgid)).unwrap_or(0);
        p.comm = bpf_get_current_comm().unwrap_or_default();
        add(&raw mut (*shared).live, 1);
        let Some(mut event) = EVENTS.reserve::<Fork>(0) else {
            return add(&raw mut (*shared).lost_events, 1);
        };
        event.write(Fork {
            tag: tag::FORK,
            at_ns: p.start_ns,
            id,
            forked_from: (*parent).id,
            clone_flags: child.clone_flags,
            clone_ns: child.clone_ns,
            page_table_bytes: read::kernel(mm + config!(mm_pgtables_bytes)).unwrap_or(0),
            parent_counts: (*parent).counts,
            parent_epoch,
            tgid: child.tgid,
            ppid: p.ppid,
            parent_tgid: (*parent).tgid,
            ns_tgid: ns_tgid(child.task),
            comm: p.comm,
        });
        event.submit(wake_flags());
        latency::forked(p);
    }
}

/// The current thread gave a thread a name (`task:task_rename`). In an exec that is the first sign of the new memory: what was
/// written so far is sent, to be told from what the kernel writes to load the program. An exec by a thread other than the
/// leader is not told so, as the leader's slot is gone by then.
#[inline(always)]
pub fn renamed() {
    let Some(task) = task_index(current_tid()).and_then(|index| TASKS.get_ptr_mut(index)) else { return };
    fault::settle(task, false);
    flush(task);
    // SAFETY: points into TASKS. The address space may be a new one.
    let proc_index = unsafe {
        (*task).cached_gib = 0;
        (*task).proc_index
    };
    let (Some(process), Some(shared)) = (PROCS.get(proc_index), shared()) else { return };
    if config!(regions) == 0 {
        return;
    }
    let Some(mut event) = EVENTS.reserve::<Renamed>(0) else {
        // SAFETY: points into SHARED.
        return unsafe { add(&raw mut (*shared).lost_events, 1) };
    };
    // SAFETY: no preconditions.
    event.write(Renamed { tag: tag::RENAMED, at_ns: unsafe { bpf_ktime_get_ns() }, id: process.id });
    event.submit(wake_flags());
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
    let proc_index = unsafe { (*task).proc_index };
    let Some(process) = PROCS.get_ptr_mut(proc_index) else { return };
    // SAFETY: points into PROCS; the process has no other thread now.
    unsafe { (*process).execs += 1 };
    // SAFETY: as above.
    latency::unshared(unsafe { &*process }, proc_index, moment::EXEC);
    let Some(mut event) = EVENTS.reserve::<Exec>(0) else {
        // SAFETY: as above.
        unsafe { unshare(process) };
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
        (*record).parent_epoch = unshare(process);
        (*record).parent_counts = parent_counts(&*process);
        (*record).counts = (*process).counts;
        (*record).comm = (*process).comm;
        let mm: u64 = read::kernel(read::current_address() + config!(task_mm)).unwrap_or(0);
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
pub fn exit<A: Atomics, C: EbpfContext>(ctx: &C) {
    let tid = current_tid();
    let Some(index) = task_index(tid) else { return };
    let Some(task) = TASKS.get_ptr_mut(index) else { return };
    fault::settle(task, false);
    let status = read::kernel(read::current_address() + config!(task_exit_code)).unwrap_or(0);
    if !forget::<A>(tid, index, task, status) {
        warn!(ctx, "the exit of process {} found no room in the ring buffer", tid);
    }
}

/// A thread is gone: gives its slot back. False if it was the last one of its process, and that could not be told.
#[inline(always)]
pub fn forget<A: Atomics>(tid: u32, index: u32, task: *mut TaskSlot, status: u32) -> bool {
    flush(task);
    let _ = INDEX.set(tid, 0, 0);
    // SAFETY: points into TASKS.
    let proc_index = unsafe { (*task).proc_index };
    let _ = FREE_TASKS.push(index, 0);
    leave::<A>(proc_index, status)
}

/// One of those who use a process's slot leaves it. False if it was the last one, and that could not be told.
#[inline(always)]
pub fn leave<A: Atomics>(proc_index: u32, status: u32) -> bool {
    let Some(process) = PROCS.get_ptr_mut(proc_index) else { return true };
    // SAFETY: points into PROCS; after the last one nobody else uses the slot.
    unsafe { !A::is_last(&raw mut (*process).threads) || end(process, proc_index, status) }
}

/// The last thread of a process is gone. False if its record found no room: that leaves the slot in use, and user space
/// reads it there at the end.
///
/// # Safety
/// Points into PROCS, to a slot that nobody else uses.
#[inline(always)]
unsafe fn end(process: *mut ProcSlot, proc_index: u32, status: u32) -> bool {
    // SAFETY: see the caller.
    latency::unshared(unsafe { &*process }, proc_index, moment::EXIT);
    // SAFETY: see the caller.
    let told = unsafe { report_exit(process, status) };
    if told {
        latency::clear(proc_index);
        // SAFETY: see the caller.
        unsafe { (*process).id = 0 };
        let _ = FREE_PROCS.push(proc_index, 0);
    }
    told
}

#[inline(always)]
unsafe fn report_exit(process: *mut ProcSlot, status: u32) -> bool {
    let Some(shared) = shared() else { return false };
    // SAFETY: see the caller.
    unsafe {
        (*process).end_ns = bpf_ktime_get_ns();
        (*process).exit_code = status;
        add(&raw mut (*shared).live, u64::MAX);
        // Who finds nobody left is not before the last; of two, both may, and wake user space once more.
        let last = core::ptr::read_volatile(&raw const (*shared).live) == 0;
        let Some(mut event) = EVENTS.reserve::<Exit>(0) else {
            unshare(process);
            add(&raw mut (*shared).lost_events, 1);
            return false;
        };
        let record = event.as_mut_ptr();
        (*record).tag = tag::EXIT;
        (*record).parent_epoch = unshare(process);
        (*record).parent_counts = parent_counts(&*process);
        (*record).process = *process;
        // The last exit ends the session: user space waits for it.
        let flags = if last { u64::from(BPF_RB_FORCE_WAKEUP) } else { wake_flags() };
        event.submit(flags);
    }
    true
}
