//! The kernel boundary: every type and constant that both the eBPF programs and user space see.
//!
//! All types are `repr(C)`, made of plain integers, without padding, and their sizes are asserted, so that
//! a record written by a kernel program reads the same in user space.
#![no_std]

mod config;
mod event;
mod kind;
mod slot;
mod stack;
mod times;

pub use config::*;
pub use event::*;
pub use kind::*;
pub use slot::*;
pub use stack::*;
pub use times::*;

/// Marks the boundary types as plain old data for aya's typed maps.
#[cfg(feature = "user")]
macro_rules! pod {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: repr(C), only integers and arrays of integers, no padding (sizes are asserted), any bit
        // pattern is valid.
        unsafe impl aya::Pod for $t {}
    )* };
}
#[cfg(feature = "user")]
pod!(
    Config,
    Calibration,
    TaskSlot,
    ProcSlot,
    Shared,
    UserStack,
    TakenStack,
    StackKey,
    StackCount,
    CowTimes,
    Fault
);
