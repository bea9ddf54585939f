//! The programs of the third article: fork timed by size, RSS around a fork, an array in .bss.

mod array;
mod timing;

use core::ffi::c_int;

use crate::{
    block::Block,
    checkpoint::Checkpoints,
    sys::{self, Args, Forked},
};

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"fork-timing" => timing::fork_timing(args),
        b"rss-after-fork" => rss_after_fork(args),
        b"global-array" => array::global_array(args),
        _ => None,
    }
}

/// `rss-after-fork BYTES`: a block that the child writes again from end to end.
fn rss_after_fork(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let bytes = args.number(2)?;
    checkpoints.stop();
    let block = Block::filled(bytes, b'X');
    checkpoints.buffer(block.start(), bytes);
    checkpoints.stop();
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            checkpoints.stop();
            block.fill(bytes, b'Y');
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            checkpoints.stop();
            Some(sys::wait(child))
        }
    }
}
