//! Atomic addition on map values.
//!
//! Rust's BPF targets offer no read-modify-write atomics, as the first BPF versions had none; the instructions exist
//! since Linux 3.18 (add) and 5.12 (add that returns the old value), so they are spelled out here.

use core::arch::asm;

use crate::maps::{LOCK, shared};

/// Adds `value` to a counter that other CPUs change as well.
///
/// # Safety
/// `counter` must point to an aligned word of a map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, value: u64) {
    // SAFETY: see the caller's duty.
    unsafe { asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) counter, v = in(reg) value) }
}

/// Addition that returns what was there before. Kernels differ in how it can be done.
pub trait Atomics {
    /// Adds `value` (which may wrap, to subtract) and returns what was there before.
    ///
    /// # Safety
    /// As for [`add`].
    unsafe fn fetch_add(counter: *mut u64, value: u64) -> u64;

    /// Takes one from a count of those who hold something; true for whoever is the last of them, exactly once. Only who holds it
    /// can let others hold it, so that nobody comes after the last.
    ///
    /// # Safety
    /// As for [`add`].
    unsafe fn is_last(holders: *mut u64) -> bool;
}

/// By the instruction, since Linux 5.12. A program that holds it is refused by older kernels as a whole.
pub struct Fetching;

impl Atomics for Fetching {
    #[inline(always)]
    unsafe fn fetch_add(counter: *mut u64, value: u64) -> u64 {
        let before: u64;
        // SAFETY: see the caller's duty.
        unsafe {
            asm!("{v} = atomic_fetch_add((u64 *)({p} + 0), {v})", p = in(reg) counter, v = inlateout(reg) value => before);
        }
        before
    }

    #[inline(always)]
    unsafe fn is_last(holders: *mut u64) -> bool {
        // SAFETY: see the caller's duty.
        unsafe { Self::fetch_add(holders, u64::MAX) == 1 }
    }
}

/// Under a lock: whoever holds the only element of [`LOCK`]. Before 5.12 these programs run with preemption off, and in no
/// interrupt, so that it is held for nanoseconds (on a virtual CPU that is taken away meanwhile, for milliseconds). The addition
/// itself is atomic even so: others change the same counters by [`add`], without the lock.
pub struct Locking;

/// Tries before it is given up, which is counted as a loss. The verifier follows each of them.
const TRIES: u32 = 256;

impl Atomics for Locking {
    #[inline(always)]
    unsafe fn fetch_add(counter: *mut u64, value: u64) -> u64 {
        // SAFETY: see the caller's duty.
        unsafe { add_locked(counter, value) }
    }

    #[inline(always)]
    unsafe fn is_last(holders: *mut u64) -> bool {
        // SAFETY: see the caller's duty.
        unsafe {
            // The only one need not agree with anybody: most processes have one thread, and so take no lock.
            if core::ptr::read_volatile(holders) == 1 {
                add(holders, u64::MAX);
                return true;
            }
            Self::fetch_add(holders, u64::MAX) == 1
        }
    }
}

#[inline(never)]
unsafe fn add_locked(counter: *mut u64, value: u64) -> u64 {
    let mut token = None;
    for _ in 0..TRIES {
        token = LOCK.pop().ok().flatten();
        if token.is_some() {
            break;
        }
    }
    // SAFETY: see the caller's duty.
    let before = unsafe { core::ptr::read_volatile(counter) };
    // SAFETY: as above.
    unsafe { add(counter, value) };
    match (token, shared()) {
        (Some(token), _) => {
            let _ = LOCK.push(token, 0);
        }
        // SAFETY: points into SHARED.
        (None, Some(shared)) => unsafe { add(&raw mut (*shared).lost_events, 1) },
        (None, None) => {}
    }
    before
}
