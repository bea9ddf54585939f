//! What steps have in common that fork over one buffer and work through it in portions.

use core::{ffi::c_int, ops::Range};

use crate::{
    checkpoint::Checkpoints,
    sys::{self, Args, Forked, Memory},
};

/// A process and the buffer that it is about to share.
pub struct Step<const N: usize> {
    pub checkpoints: Checkpoints,
    pub memory: Memory,
    /// The arguments after the number of pages.
    pub numbers: [usize; N],
}

impl<const N: usize> Step<N> {
    /// Reads the arguments, and writes each byte of a new buffer. Two checkpoints: before, and after that.
    pub fn new(args: &Args) -> Option<Step<N>> {
        let mut checkpoints = Checkpoints::new(args);
        if checkpoints.given(args) != 1 + N {
            return None;
        }
        let pages = args.number(2)?;
        let mut numbers = [0; N];
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = args.number(3 + index)?;
        }
        checkpoints.stop();
        let memory = Memory::guarded(pages);
        memory.fill(FILLED);
        checkpoints.buffer(memory.start().cast(), memory.bytes());
        checkpoints.stop();
        Some(Step { checkpoints, memory, numbers })
    }

    /// Forks: the third checkpoint, of both. Each then goes its own way.
    pub fn fork(
        mut self,
        in_parent: impl FnOnce(&mut Step<N>),
        in_child: impl FnOnce(&mut Step<N>),
    ) -> Option<c_int> {
        match sys::fork() {
            Forked::Child => {
                self.checkpoints.become_child();
                self.checkpoints.stop();
                in_child(&mut self);
                sys::exit_now(0)
            }
            Forked::Parent(child) => {
                self.checkpoints.stop();
                in_parent(&mut self);
                Some(sys::wait(child))
            }
        }
    }
}

/// What the buffer holds at the fork.
pub const FILLED: u8 = 1;

/// What is written to it since.
pub const WRITTEN: u8 = 2;

/// Part `index` of `portions` of `total`: they differ by one at most, and make up the whole.
pub fn portion(total: usize, index: usize, portions: usize) -> Range<usize> {
    let bound = |index: usize| index * total / portions;
    bound(index)..bound(index + 1)
}
