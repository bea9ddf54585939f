//! Attach points: thin twins that hand over the pieces of a fault, and of a process's life.

pub mod fentry;
pub mod kprobe;
pub mod tracepoint;
