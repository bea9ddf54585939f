//! cowtrace-workload: small honest processes whose page faults are known before they run.
//!
//! They are what a C program would be: no Rust runtime, no allocation but the ones a step is about, only
//! calls to libc. Step `no-heap` could not be shown otherwise, because anything that allocates before `main`
//! creates the heap.
#![no_main]

mod block;
mod checkpoint;
mod copies;
mod faults;
mod files;
mod lab;
mod life;
mod memory;
mod programs;
mod protocol;
mod sys;

use core::ffi::{c_char, c_int};

use sys::Args;

/// Wrong arguments, as in the contract of the main program.
const BAD_USAGE: c_int = 2;

/// The entry point that libc calls; there is no Rust runtime around it.
///
/// # Safety
/// Called by libc, once, with the process's arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the arguments are those of the C entry point.
    let args = unsafe { Args::new(argc, argv) };
    programs::run(&args).unwrap_or_else(|| {
        sys::write(2, programs::USAGE.as_bytes());
        BAD_USAGE
    })
}
