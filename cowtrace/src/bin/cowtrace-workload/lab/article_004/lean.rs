//! A fork with a large block, and one without it.

use core::ffi::c_int;

use super::sample_forks;
use crate::{
    block::Block,
    checkpoint::Checkpoints,
    sys::{self, Args, Forked},
};

/// `lean-fork BYTES FORKS`: a filled block, so many timed forks, and a child that writes the whole block; then the
/// same without the block, the child having only the block's first byte. Reports the ns of each timed fork, and that
/// byte from the last child.
pub fn lean_fork(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let (bytes, forks) = (args.number(2)?, args.number(3)?);
    checkpoints.stop();
    let block = Block::filled(bytes, b'C');
    checkpoints.buffer(block.start(), bytes);
    checkpoints.stop();
    sample_forks(&checkpoints, forks);
    checkpoints.stop();
    let child = match sys::fork() {
        Forked::Child => {
            checkpoints.become_role(1);
            checkpoints.stop();
            block.fill(bytes, b'D');
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => child,
    };
    checkpoints.stop();
    if sys::wait(child) != 0 {
        return Some(1);
    }
    let important = block.first();
    block.free();
    checkpoints.buffer(core::ptr::null_mut(), 0);
    checkpoints.stop();
    sample_forks(&checkpoints, forks);
    checkpoints.stop();
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_role(2);
            checkpoints.sample([u64::from(important), 0, 0, 0]);
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            checkpoints.stop();
            Some(sys::wait(child))
        }
    }
}
