//! User stacks: which code made the copies.

/// Frames of a stack that are kept, from the one that was running outwards; the kernel takes no more by default
/// (`kernel.perf_event_max_stack`).
pub const STACK_FRAMES: usize = 127;

/// Words that are read at once: one read costs as much as following many frames.
pub const CHUNK_WORDS: usize = 128;

/// Different stacks that are kept at most.
pub const STACKS_MAX: u32 = 16_384;

/// Counts by process, program, stack and kind that are kept at most.
pub const STACK_COUNTS_MAX: u32 = 65_536;

/// What stands for the [`StackKey::epoch`] of copies that are told apart by forks no longer: half of the counts are in use
/// ([`EPOCHS_MIXED`]), or there were too many forks.
pub const EPOCH_UNKNOWN: u16 = u16::MAX;

/// Bit of [`crate::ProcSlot::epoch`]: counts by stack tell epochs apart no longer. The bits below go on counting.
pub const EPOCHS_MIXED: u64 = 1 << 63;

/// Values of [`crate::TaskSlot::stack`].
pub mod taking {
    /// There is none of this fault.
    pub const NONE: u32 = 0;
    /// It is being taken: a fault that this raises is none of the thread's own.
    pub const BUSY: u32 = 1;
    /// It is in the thread's [`super::TakenStack`].
    pub const DONE: u32 = 2;
}

/// A user stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserStack {
    /// Frames in use.
    pub depth: u64,
    /// Addresses: the one that was running, then those returned to.
    pub frames: [u64; STACK_FRAMES],
}

/// The stack that a thread took last.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenStack {
    /// Names it; 64 bits, so that two stacks that share one are not to be expected.
    pub hash: u64,
    /// The stack.
    pub stack: UserStack,
    /// A part of the thread's memory, as it was read while the frames were followed.
    pub chunk: [u64; CHUNK_WORDS],
}

/// What copies are counted by.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackKey {
    /// [`crate::ProcSlot::id`].
    pub id: u64,
    /// [`TakenStack::hash`].
    pub hash: u64,
    /// [`crate::ProcSlot::execs`] at that time.
    pub execs: u32,
    /// [`crate::Kind`].
    pub kind: u16,
    /// [`crate::ProcSlot::epoch`] at that time, or [`EPOCH_UNKNOWN`].
    pub epoch: u16,
}

/// Copies of one kind, from one stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackCount {
    /// How many.
    pub count: u64,
    /// Kernel time of the first, jiffies.
    pub first_jiffies: u64,
}

impl UserStack {
    /// Names a stack by its frames; these are not 0.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut hash = 0;
        for (index, frame) in self.frames.iter().enumerate() {
            if index as u64 >= self.depth {
                break;
            }
            hash = (hash ^ frame).wrapping_mul(ODD);
            hash ^= hash >> 32;
        }
        hash
    }

    /// The frames in use.
    pub fn frames(&self) -> &[u64] {
        let depth = usize::try_from(self.depth).unwrap_or(STACK_FRAMES);
        &self.frames[..depth.min(STACK_FRAMES)]
    }

    /// Whether there may be more frames, which were not kept.
    pub fn is_cut(&self) -> bool {
        self.depth >= STACK_FRAMES as u64
    }
}

const _: () = assert!(size_of::<UserStack>() == 8 + STACK_FRAMES * 8);
const _: () = assert!(size_of::<TakenStack>() == 8 + size_of::<UserStack>() + CHUNK_WORDS * 8);
const _: () = assert!(size_of::<StackKey>() == 3 * 8);
const _: () = assert!(size_of::<StackCount>() == 2 * 8);

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frames: &[u64]) -> UserStack {
        let mut stack = UserStack { depth: frames.len() as u64, frames: [0; STACK_FRAMES] };
        stack.frames[..frames.len()].copy_from_slice(frames);
        stack
    }

    #[test]
    fn a_stack_is_named_by_its_frames_and_their_order() {
        let both = stack(&[0x401136, 0x401180]);
        assert_eq!(both.hash(), stack(&[0x401136, 0x401180]).hash());
        assert_ne!(both.hash(), stack(&[0x401180, 0x401136]).hash());
        assert_ne!(both.hash(), stack(&[0x401136]).hash());
        assert_eq!(both.frames(), [0x401136, 0x401180]);
    }

    #[test]
    fn what_lies_behind_the_frames_does_not_matter() {
        let mut longer = stack(&[1, 2, 3]);
        longer.depth = 2;
        assert_eq!(longer.hash(), stack(&[1, 2]).hash());
        assert!(!longer.is_cut());
        longer.depth = u64::MAX;
        assert_eq!(longer.frames().len(), STACK_FRAMES);
    }
}
