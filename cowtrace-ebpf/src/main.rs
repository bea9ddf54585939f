//! The eBPF programs of cowtrace: they count in the kernel, and follow processes from fork to exit.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod adopt;
mod atomic;
mod calibrate;
mod events;
mod fault;
mod latency;
mod life;
mod maps;
mod page;
mod probes;
mod read;
mod stacks;
mod tally;
mod walk;

/// The helpers that read kernel memory are for GPL-compatible programs only; user space is licensed apart.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
