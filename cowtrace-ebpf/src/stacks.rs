//! Counting copies by the user stack that made them.
//!
//! A stack is taken inside the fault and counted when the fault's outcome is known, which may be at the thread's next one:
//! until then it stays in the thread's [`TakenStack`](cowtrace_abi::TakenStack). Any hook inside a fault sees the same user
//! registers, and so the same stack.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_USER_STACK, BPF_NOEXIST},
    helpers::generated::{bpf_get_stack, bpf_jiffies64, bpf_task_pt_regs},
};
use cowtrace_abi::{
    CHUNK_WORDS, EPOCH_UNKNOWN, Kind, ProcSlot, STACK_COUNTS_MAX, STACK_FRAMES, StackCount, StackKey,
    TakenStack, TaskSlot, UserStack, taking,
};

use crate::{
    atomic::add,
    config,
    maps::{STACK_COUNTS, STACKS, TAKEN_STACKS, current_tid, shared, task_index},
    read,
};

/// The largest frame of a function that is followed, bytes: most stacks are no larger in all.
const FRAME_MAX: u64 = 8 << 20;

/// Takes the user stack of the current thread, for a copy that is about to be counted, or likely to.
#[inline(always)]
pub fn take(ctx: *mut c_void, task: *mut TaskSlot) {
    if config!(stacks) != 0 {
        take_now(ctx, task);
    }
}

/// Whether the current fault was raised by [`take`], which reads user memory that may not be there.
#[inline(always)]
pub fn raised_fault(task: *mut TaskSlot) -> bool {
    // SAFETY: `task` points into TASKS, and only the current thread writes to its slot.
    config!(stacks) != 0 && unsafe { (*task).stack } == taking::BUSY
}

/// Counts a fault of the current thread under the stack that was taken in it.
#[inline(always)]
pub fn count(task: *mut TaskSlot, process: *mut ProcSlot, kind: Kind) {
    if config!(stacks) != 0 && kind.replaces_a_page() {
        count_now(task, process, kind as u16);
    }
}

/// Whether half of the counts are in use.
#[inline(always)]
pub fn is_crowded() -> bool {
    if config!(stacks) == 0 {
        return false;
    }
    // SAFETY: points into SHARED.
    shared().is_some_and(|shared| unsafe { (*shared).stack_counts >= u64::from(STACK_COUNTS_MAX / 2) })
}

#[inline(always)]
fn taken() -> Option<*mut TakenStack> {
    TAKEN_STACKS.get_ptr_mut(task_index(current_tid())?)
}

#[inline(never)]
fn take_now(ctx: *mut c_void, task: *mut TaskSlot) {
    let Some(taken) = taken() else { return };
    // SAFETY: `task` points into TASKS, `taken` into TAKEN_STACKS; both are the current thread's own. The helper writes at
    // most the size given. The state must be seen by the fault that the helper may raise.
    unsafe {
        (&raw mut (*task).stack).write_volatile(taking::BUSY);
        let TakenStack { stack, chunk, .. } = &mut *taken;
        stack.depth = if config!(functions) != 0 { kernels_walk(ctx, stack) } else { own_walk(stack, chunk) };
        let mut state = taking::NONE;
        if stack.depth > 0 {
            (*taken).hash = stack.hash();
            state = taking::DONE;
        }
        (&raw mut (*task).stack).write_volatile(state);
    }
}

/// By the kernel's helper, for hooks that do not tell the registers. It finds the end of a stack by a read that fails, which
/// is a fault of its own.
#[inline(always)]
fn kernels_walk(ctx: *mut c_void, stack: &mut UserStack) -> u64 {
    let flags = u64::from(BPF_F_USER_STACK);
    let frames = &mut stack.frames;
    // SAFETY: the helper writes at most the size given.
    let bytes = unsafe { bpf_get_stack(ctx, frames.as_mut_ptr().cast(), size_of_val(frames) as u32, flags) };
    if bytes > 0 { bytes as u64 / 8 } else { 0 }
}

/// Along the frame pointers. What cannot be one is not followed: code that was built without them keeps other things in
/// their register.
#[inline(always)]
fn own_walk(stack: &mut UserStack, chunk: &mut [u64; CHUNK_WORDS]) -> u64 {
    // SAFETY: BTF pointers and offsets of the running kernel.
    let (ip, sp, mut frame): (u64, u64, u64) = unsafe {
        let regs = bpf_task_pt_regs(read::current().cast_mut().cast()) as *const c_void;
        let register = |offset| read::field(regs, offset);
        (register(config!(regs_ip)), register(config!(regs_sp)), register(config!(regs_bp)))
    };
    stack.frames[0] = ip;
    let mut depth = 1;
    let mut above = sp;
    // Where the chunk begins, and how much of it is read.
    let (mut base, mut words) = (0, 0);
    while depth < STACK_FRAMES {
        // The caller's frame lies above, and in the same stack.
        if frame & 7 != 0 || frame.wrapping_sub(above) > FRAME_MAX {
            break;
        }
        let mut at = frame.wrapping_sub(base) / 8;
        if at + 1 >= words {
            (base, at) = (frame, 0);
            words = read_chunk(chunk, frame);
            if words == 0 {
                break;
            }
        }
        let word = |at: u64| chunk[at as usize & (CHUNK_WORDS - 1)];
        let (next, return_address) = (word(at), word(at + 1));
        if return_address == 0 {
            break;
        }
        stack.frames[depth] = return_address;
        depth += 1;
        above = frame + 16;
        frame = next;
    }
    depth as u64
}

/// How many words were read: all, or two where the stack ends.
#[inline(always)]
fn read_chunk(chunk: &mut [u64; CHUNK_WORDS], address: u64) -> u64 {
    for words in [CHUNK_WORDS, 2] {
        if read::user_into(&mut chunk[..words], address) {
            return words as u64;
        }
    }
    0
}

#[inline(never)]
fn count_now(task: *mut TaskSlot, process: *mut ProcSlot, kind: u16) {
    // SAFETY: `task` points into TASKS, and only the current thread writes to its slot.
    let done = unsafe { core::mem::take(&mut (*task).stack) } == taking::DONE;
    if done && count_taken(process, kind).is_some() {
        return;
    }
    if let Some(shared) = shared() {
        // SAFETY: points into SHARED.
        unsafe { add(&raw mut (*shared).lost_stacks, 1) };
    }
}

/// `None` if there was no room.
#[inline(always)]
fn count_taken(process: *mut ProcSlot, kind: u16) -> Option<()> {
    let taken = taken()?;
    // SAFETY: points into TAKEN_STACKS and PROCS.
    let key = unsafe {
        let epoch = (*process).epoch.min(u64::from(EPOCH_UNKNOWN)) as u16;
        StackKey { id: (*process).id, hash: (*taken).hash, execs: (*process).execs as u32, kind, epoch }
    };
    if count_known(&key).is_some() {
        return Some(());
    }
    // SAFETY: points into TAKEN_STACKS, which only this thread writes to.
    let stack = unsafe { &(*taken).stack };
    if STACKS.get_ptr(key.hash).is_none() {
        STACKS.insert(key.hash, stack, 0).ok()?;
    }
    // SAFETY: no preconditions.
    let first = StackCount { count: 1, first_jiffies: unsafe { bpf_jiffies64() } };
    if STACK_COUNTS.insert(key, first, u64::from(BPF_NOEXIST)).is_ok() {
        if let Some(shared) = shared() {
            // SAFETY: points into SHARED.
            unsafe { add(&raw mut (*shared).stack_counts, 1) };
        }
        return Some(());
    }
    // Another thread may have come first.
    count_known(&key)
}

#[inline(always)]
fn count_known(key: &StackKey) -> Option<()> {
    let known = STACK_COUNTS.get_ptr_mut(key)?;
    // SAFETY: points into STACK_COUNTS.
    unsafe { add(&raw mut (*known).count, 1) };
    Some(())
}
