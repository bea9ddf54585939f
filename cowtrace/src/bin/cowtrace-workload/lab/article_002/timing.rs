//! Forks by the hundred, timed.

use core::ffi::c_int;

use crate::{
    block::Block,
    checkpoint::Checkpoints,
    sys::{self, Args, Forked, Memory},
};

/// `fork-timing BYTES FORKS [BYTES FORKS...]`: a block of each size; so many children, one after the other, that
/// do nothing, then as many that write all of it. Reports a sample for each child: ns of fork, of writing, from
/// the fork until the child was waited for; and its process id.
pub fn fork_timing(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let end = 2 + checkpoints.given(args);
    if end == 2 || !end.is_multiple_of(2) || (2..end).any(|index| args.number(index).is_none()) {
        return None;
    }
    // How long a child wrote, which only it knows; shared with all of them.
    let written = Memory::map(1, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
    checkpoints.stop();
    for index in (2..end).step_by(2) {
        let (bytes, forks) = (args.number(index)?, args.number(index + 1)?);
        let block = Block::filled(bytes, b'A');
        checkpoints.buffer(block.start(), bytes);
        checkpoints.stop();
        for write in [false, true] {
            for _ in 0..forks {
                let sample = time_fork(block, write, written.start().cast());
                checkpoints.sample(sample);
            }
            checkpoints.stop();
        }
        block.free();
        checkpoints.buffer(core::ptr::null_mut(), 0);
        checkpoints.stop();
    }
    Some(0)
}

fn time_fork(block: Block, write: bool, written_ns: *mut u64) -> [u64; 4] {
    // SAFETY: a page that is there until the end; volatile, because it changes in another process.
    unsafe { written_ns.write_volatile(0) };
    let start = sys::now_ns();
    match sys::fork() {
        Forked::Child => {
            sys::die_with_parent();
            if write {
                let start = sys::now_ns();
                block.fill(block.bytes(), b'B');
                // SAFETY: as above.
                unsafe { written_ns.write_volatile(sys::now_ns() - start) };
            }
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            let fork_ns = sys::now_ns() - start;
            sys::wait(child);
            let whole_ns = sys::now_ns() - start;
            // SAFETY: as above.
            [fork_ns, unsafe { written_ns.read_volatile() }, whole_ns, u64::from(child.cast_unsigned())]
        }
    }
}
