//! Two programs that do nothing: whether a kind of hook works on a kernel is learnt by attaching one.
//!
//! An object of their own, so that a refusal costs next to nothing.
#![no_std]
#![no_main]

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

/// As in the main object: the helpers of GPL-compatible programs are not used here, but fentry asks for it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[fentry]
fn try_fentry(_ctx: FEntryContext) -> i32 {
    0
}

#[kprobe]
fn try_kprobe(_ctx: ProbeContext) -> u32 {
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
