//! VSZ and RSS of a parent and its child.

use core::ffi::c_int;

use crate::{
    block::Block,
    checkpoint::Checkpoints,
    sys::{self, Args, Forked},
};

/// `vsz-rss MAPPED FILLED WRITTEN [MAPPED FILLED WRITTEN...]` (bytes): each time a block of which a part is filled,
/// and a child that writes a part of that. The children have roles 1, 2, and so on.
pub fn vsz_rss(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let end = 2 + checkpoints.given(args);
    if end == 2 || !(end - 2).is_multiple_of(3) || (2..end).any(|index| args.number(index).is_none()) {
        return None;
    }
    checkpoints.stop();
    for (role, index) in (1..).zip((2..end).step_by(3)) {
        let [mapped, filled, written] =
            [args.number(index)?, args.number(index + 1)?, args.number(index + 2)?];
        let Some(block) = Block::allocate(mapped) else { sys::fail("malloc") };
        block.fill(filled, b'A');
        checkpoints.buffer(block.start(), mapped);
        checkpoints.stop();
        match sys::fork() {
            Forked::Child => {
                checkpoints.become_role(role);
                checkpoints.stop();
                block.fill(written, b'B');
                checkpoints.stop();
                sys::exit_now(0)
            }
            Forked::Parent(child) => {
                checkpoints.stop();
                let status = sys::wait(child);
                if status != 0 {
                    return Some(status);
                }
            }
        }
        block.free();
        checkpoints.buffer(core::ptr::null_mut(), 0);
        checkpoints.stop();
    }
    Some(0)
}
