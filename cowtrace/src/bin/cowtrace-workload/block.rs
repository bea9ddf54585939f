//! Large blocks of malloc, as the articles' programs use them: each is a mapping of its own.

use core::{ffi::c_int, hint::black_box};

use crate::sys;

/// Memory from malloc(3), large enough that the allocator asks the kernel for a mapping just for it.
///
/// The block begins behind the allocator's own few bytes, so it ends on one page more than its size asks for.
#[derive(Clone, Copy)]
pub struct Block {
    start: *mut u8,
    bytes: usize,
}

impl Block {
    /// malloc(3); `None` if the kernel refuses. In pages of the usual size, whatever the machine's setting is: a
    /// fault is a page.
    pub fn allocate(bytes: usize) -> Option<Block> {
        // SAFETY: any size is allowed.
        let start = unsafe { libc::malloc(bytes) };
        if start.is_null() {
            return None;
        }
        sys::no_huge_pages(start.cast(), bytes);
        // The compiler knows malloc and memset, and may drop what nobody reads.
        Some(Block { start: black_box(start.cast()), bytes })
    }

    /// The same with every byte written, or the end.
    pub fn filled(bytes: usize, value: u8) -> Block {
        let Some(block) = Block::allocate(bytes) else { sys::fail("malloc") };
        block.fill(bytes, value);
        block
    }

    /// Where it begins.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the first so many bytes.
    pub fn fill(&self, bytes: usize, value: u8) {
        // SAFETY: no more than was allocated.
        unsafe { libc::memset(self.start.cast(), c_int::from(value), bytes.min(self.bytes)) };
        black_box(self.start);
    }

    /// The first byte.
    pub fn first(&self) -> u8 {
        // SAFETY: a block is not empty; volatile, because the access is what is asked for.
        unsafe { self.start.read_volatile() }
    }

    /// free(3), after which no copy of this may be used.
    pub fn free(self) {
        // SAFETY: from malloc; callers have no other copy of it left.
        unsafe { libc::free(self.start.cast()) };
    }
}
