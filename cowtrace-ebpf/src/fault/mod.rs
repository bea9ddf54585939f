//! The meaning of a fault, whatever hook brings the pieces.
//!
//! A fault is seen in pieces. The first puts the thread into a [`state`](cowtrace_abi::state); the others move it on; what
//! needs the *absence* of a piece (a reuse is a write-protect fault without an allocation) is decided when the next fault,
//! fork, exec or exit of the thread shows that the last one is over. What the pieces are depends on the hooks:
//! [`tracepoints`] puts a copy together from the fault, the allocation and the counters; [`functions`] sees the kernel's own
//! copy functions at work.

pub mod functions;
mod system_calls;
pub mod tracepoints;

use cowtrace_abi::TaskSlot;

use crate::config;

/// `SEGV_ACCERR` and `SEGV_PKUERR` of siginfo: the mapping, or its protection key, forbids the access.
const SEGV_ACCERR: i32 = 2;
const SEGV_PKUERR: i32 = 4;
const SIGSEGV: u64 = 11;

#[inline(always)]
fn is_forbidden(code: i32) -> bool {
    matches!(code, SEGV_ACCERR | SEGV_PKUERR)
}

/// Decides what only the end of the fault could tell, and leaves the thread without a fault. `forked`: a fork has taken
/// the write permission from the page-table entries meanwhile.
#[inline(always)]
pub fn settle(task: *mut TaskSlot, forked: bool) {
    if config!(functions) != 0 {
        functions::settle(task);
    } else {
        tracepoints::settle(task, forked);
    }
}
