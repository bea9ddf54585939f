//! Atomic addition on map values.
//!
//! Rust's BPF targets offer no read-modify-write atomics, as the first BPF versions had none; the instructions exist
//! since Linux 3.18 (add) and 5.12 (add that returns the old value), so they are spelled out here.

use core::arch::asm;

/// Adds `value` to a counter that other CPUs change as well.
///
/// # Safety
/// `counter` must point to an aligned word of a map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, value: u64) {
    // SAFETY: see the caller's duty.
    unsafe { asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) counter, v = in(reg) value) }
}

/// Adds `value` (which may wrap, to subtract) and returns what was there before.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn fetch_add(counter: *mut u64, value: u64) -> u64 {
    let before: u64;
    // SAFETY: see the caller's duty.
    unsafe {
        asm!("{v} = atomic_fetch_add((u64 *)({p} + 0), {v})", p = in(reg) counter, v = inlateout(reg) value => before);
    }
    before
}
