//! Counting an outcome, and sending addresses out in windows.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_jiffies64,
};
use cowtrace_abi::{
    EPOCHS_MIXED, Kind, Pages, ProcSlot, REMOTE, TaskSlot, UNPLACED, WINDOW_EPOCH_SHIFT, WINDOW_PAGES,
    WINDOWS, Window, flag, tag,
};

use crate::{
    atomic::add,
    config, events, latency,
    maps::{EVENTS, PROCS, shared},
    read, stacks,
};

/// Unread bytes in the ring buffer from which on user space is woken instead of left to its timer.
const WAKE_BYTES: u64 = 512 << 10;

/// Flags of a record: user space reads the ring on a timer, and is woken only when it fills up.
#[inline(always)]
pub fn wake_flags() -> u64 {
    if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) > WAKE_BYTES {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Counts one fault of the current thread. `pages` is what an anonymous first touch brought in, else 1; `vma` the kernel
/// address of the mapping, where the hook tells it, else 0.
#[inline(always)]
pub fn record(task: *mut TaskSlot, kind: Kind, address: u64, pages: u64, vma: u64) {
    // SAFETY: `task` points into TASKS, and only the current thread writes to its slot.
    let proc_index = unsafe { (*task).proc_index };
    let Some(process) = PROCS.get_ptr_mut(proc_index) else { return };
    // SAFETY: points into PROCS; the index is a discriminant, below KINDS.
    unsafe {
        add(&raw mut (*process).counts[kind as usize], 1);
        if matches!(kind, Kind::Anon) {
            add(&raw mut (*process).anon_pages, pages);
        }
    }
    stacks::count(task, process, kind);
    latency::note(task, kind);
    events::tell(task, process, kind, address, pages, vma);
    if config!(regions) == 0 {
        return;
    }
    if pages > 1 {
        return send_span(process, kind, address, pages, vma);
    }
    let page = address >> config!(page_shift);
    let number = page / WINDOW_PAGES;
    // SAFETY: `task` points into TASKS.
    let remote = if unsafe { (*task).flags } & flag::REMOTE != 0 { REMOTE } else { 0 };
    let unplaced = unplaced(task, kind);
    // SAFETY: points into PROCS.
    let epoch = unsafe { (*process).epoch };
    let key = epoch << WINDOW_EPOCH_SHIFT | number << 8 | remote | unplaced | kind as u64;
    // Kinds and neighbouring windows spread over the few entries.
    let entry = (number ^ kind as u64) as usize & (WINDOWS - 1);
    // SAFETY: the mask keeps the entry in bounds.
    let window = unsafe { &mut (*task).windows[entry] };
    // SAFETY: no preconditions.
    let now = unsafe { bpf_jiffies64() };
    let bit = 1 << (page % WINDOW_PAGES);
    if window.count != 0 && (window.key != key || is_told_apart(kind) && window.bitmap & bit != 0) {
        send(process, window, 0);
        window.count = 0;
    }
    if window.count == 0 {
        window.key = key;
        window.bitmap = 0;
        window.first_jiffies = now;
        (window.vma_start, window.vma_end) = bounds(vma);
    }
    window.bitmap |= bit;
    window.last_jiffies = now;
    window.count += 1;
}

/// A process forks, or a child of it shares its pages no longer: what it copies from here on is told apart from what it has
/// copied. Returns [`ProcSlot::epoch`].
#[inline(always)]
pub fn next_epoch(process: *mut ProcSlot) -> u64 {
    if config!(stacks) == 0 && config!(regions) == 0 {
        return 0;
    }
    // SAFETY: points into PROCS.
    unsafe { add(&raw mut (*process).epoch, 1) };
    // The more is told apart, the more counts are needed; to count all copies goes first.
    if stacks::is_crowded() {
        // SAFETY: as above.
        unsafe { (*process).epoch |= EPOCHS_MIXED };
    }
    // SAFETY: as above.
    unsafe { (*process).epoch }
}

/// Whether a page that is hit twice must be seen to be: its window holds each page once only.
#[inline(always)]
fn is_told_apart(kind: Kind) -> bool {
    config!(pages) != 0 && kind.replaces_a_page()
}

/// [`UNPLACED`], if it is not known which page this is.
#[inline(always)]
fn unplaced(task: *mut TaskSlot, kind: Kind) -> u64 {
    if !is_told_apart(kind) || config!(functions) != 0 {
        return 0;
    }
    // SAFETY: `task` points into TASKS.
    if unsafe { (*task).is_unplaced() } { UNPLACED } else { 0 }
}

/// First and last address (exclusive) of a mapping.
#[inline(always)]
pub fn bounds(vma: u64) -> (u64, u64) {
    if vma == 0 {
        return (0, 0);
    }
    let word = |offset: u64| read::kernel(vma + offset).unwrap_or(0);
    (word(config!(vma_start)), word(config!(vma_end)))
}

/// Sends what a thread has gathered.
#[inline(always)]
pub fn flush(task: *mut TaskSlot) {
    events::close(task, 0);
    if config!(regions) == 0 {
        return;
    }
    // SAFETY: `task` points into TASKS.
    let proc_index = unsafe { (*task).proc_index };
    let Some(process) = PROCS.get_ptr_mut(proc_index) else { return };
    for entry in 0..WINDOWS {
        // SAFETY: in bounds.
        let window = unsafe { &mut (*task).windows[entry] };
        if window.count != 0 {
            send(process, window, 0);
            window.count = 0;
        }
    }
}

/// Sends a window; `span` is not 0 if one fault brought in that many pages.
#[inline(always)]
fn send(process: *mut ProcSlot, window: &Window, span: u64) {
    // SAFETY: points into PROCS.
    let id = unsafe { (*process).id };
    match EVENTS.reserve::<Pages>(0) {
        Some(mut event) => {
            event.write(Pages { tag: tag::PAGES, id, window: *window, span });
            event.submit(wake_flags());
        }
        None => lose(window.count),
    }
}

#[inline(never)]
fn send_span(process: *mut ProcSlot, kind: Kind, address: u64, pages: u64, vma: u64) {
    // SAFETY: no preconditions.
    let now = unsafe { bpf_jiffies64() };
    let page = address >> config!(page_shift);
    // The block is naturally aligned: the fault may have hit its middle.
    let first = page & !(pages - 1);
    let (vma_start, vma_end) = bounds(vma);
    let window = Window {
        // SAFETY: points into PROCS.
        key: unsafe { (*process).epoch } << WINDOW_EPOCH_SHIFT | (first / WINDOW_PAGES) << 8 | kind as u64,
        bitmap: 1 << (first % WINDOW_PAGES),
        first_jiffies: now,
        last_jiffies: now,
        count: 1,
        vma_start,
        vma_end,
    };
    send(process, &window, pages);
}

#[inline(always)]
fn lose(faults: u64) {
    if let Some(shared) = shared() {
        // SAFETY: points into SHARED.
        unsafe {
            add(&raw mut (*shared).lost_events, 1);
            add(&raw mut (*shared).lost_regions, faults);
        }
    }
}
