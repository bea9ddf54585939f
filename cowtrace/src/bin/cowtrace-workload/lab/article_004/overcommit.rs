//! More memory than is ever used, and more than there is.

use core::ffi::c_int;

use super::sample_forks;
use crate::{
    block::Block,
    checkpoint::Checkpoints,
    sys::{self, Args, Forked},
};

/// `overcommit BYTES WRITTEN FORKS HALF TOO_MUCH`: so many timed forks; then a block of this size, of which a part
/// is written, and the same forks with it; a child that writes the same part again. At the end three blocks of size
/// HALF, and one of size TOO_MUCH. Reports the ns of each timed fork, whether the first block was granted, how many
/// of the three, and whether the last.
pub fn overcommit(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let [bytes, written] = [args.number(2)?, args.number(3)?];
    let [forks, half, too_much] = [args.number(4)?, args.number(5)?, args.number(6)?];
    checkpoints.stop();
    sample_forks(&checkpoints, forks);
    checkpoints.stop();
    let granted = Block::allocate(bytes);
    checkpoints.sample([u64::from(granted.is_some()), 0, 0, 0]);
    // Refused, it goes on without, and the lab tells why.
    if let Some(block) = granted {
        checkpoints.buffer(block.start(), bytes);
    }
    checkpoints.stop();
    if let Some(block) = granted {
        block.fill(written, 0);
    }
    checkpoints.stop();
    sample_forks(&checkpoints, forks);
    checkpoints.stop();
    let child = match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            checkpoints.stop();
            if let Some(block) = granted {
                block.fill(written, 1);
            }
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => child,
    };
    checkpoints.stop();
    let status = sys::wait(child);
    if let Some(block) = granted {
        block.free();
    }
    checkpoints.buffer(core::ptr::null_mut(), 0);
    checkpoints.stop();
    let halves = [(); 3].map(|()| Block::allocate(half));
    let count = halves.iter().flatten().count() as u64;
    let all = Block::allocate(too_much);
    checkpoints.sample([count, u64::from(all.is_some()), 0, 0]);
    checkpoints.stop();
    Some(status)
}
