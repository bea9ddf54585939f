//! To be written.

use core::ffi::c_int;

use crate::sys::Args;

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        _ => None,
    }
}
