//! Mappings, handled page by page.

use core::{
    ffi::{c_int, c_void},
    hint::black_box,
};

use crate::sys::{fail, minor_faults, no_huge_pages, page_size};

/// A mapping, handled page by page.
#[derive(Clone, Copy)]
pub struct Memory {
    start: *mut u8,
    pages: usize,
    page_size: usize,
}

impl Memory {
    /// mmap(2) of this many pages, readable and writable, without huge pages: a fault is a page.
    pub fn map(pages: usize, flags: c_int, fd: c_int) -> Memory {
        let memory = Memory::unadvised(pages, flags, fd);
        no_huge_pages(memory.start, memory.bytes());
        memory
    }

    /// The same, with huge pages where the kernel likes.
    pub fn unadvised(pages: usize, flags: c_int, fd: c_int) -> Memory {
        let page_size = page_size();
        let Some(bytes) = pages.checked_mul(page_size) else { fail("too many pages") };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(core::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
        };
        if start == libc::MAP_FAILED {
            fail("mmap");
        }
        Memory { start: start.cast(), pages, page_size }
    }

    /// Private anonymous memory, each page written once.
    pub fn touched(pages: usize) -> Memory {
        let memory = Memory::map(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
        memory.write(1);
        memory
    }

    /// Private anonymous memory between two pages that nobody may touch: a mapping of its own in smaps, as
    /// neighbours would be merged with it.
    pub fn guarded(pages: usize) -> Memory {
        let Some(all) = pages.checked_add(2) else { fail("too many pages") };
        let whole = Memory::map(all, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
        whole.part(0, 1).protect(libc::PROT_NONE);
        whole.part(pages + 1, all).protect(libc::PROT_NONE);
        whole.part(1, pages + 1)
    }

    /// Whole pages of the caller's own, the first one at or after this address.
    ///
    /// # Safety
    /// From the address on, one page more than asked for can be read and written as long as this is used.
    pub unsafe fn at(address: *mut u8, pages: usize) -> Memory {
        let page_size = page_size();
        Memory { start: address.wrapping_add(address.align_offset(page_size)), pages, page_size }
    }

    /// Private hugetlb memory, handled by huge pages of this many bytes, the kernel's default size.
    pub fn hugetlb(pages: usize, huge_page_size: usize) -> Memory {
        let Some(bytes) = pages.checked_mul(huge_page_size) else { fail("too many pages") };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        let memory = Memory::map(bytes / page_size(), flags, -1);
        Memory { start: memory.start, pages, page_size: huge_page_size }
    }

    /// Where it begins.
    pub fn start(&self) -> *mut c_void {
        self.start.cast()
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.pages * self.page_size
    }

    /// Its length in pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// One page.
    pub fn page(&self, index: usize) -> *mut u8 {
        // SAFETY: callers count pages of this mapping.
        unsafe { self.start.add(index * self.page_size) }
    }

    /// Pages `from..to` only.
    pub fn part(&self, from: usize, to: usize) -> Memory {
        Memory { start: self.page(from), pages: to - from, page_size: self.page_size }
    }

    /// Writes one byte to each page.
    pub fn write(&self, value: u8) {
        for index in 0..self.pages {
            // SAFETY: inside the mapping; volatile, because it is the access that counts.
            unsafe { self.page(index).write_volatile(value) };
        }
    }

    /// Writes one byte to each page, and counts the page faults of this process meanwhile.
    ///
    /// Once before, it does so on a page of `other`: code and stack that it needs are in memory from then on, and fault
    /// no more.
    pub fn write_counting_faults(&self, value: u8, other: &Memory) -> u64 {
        let count = |memory: &Memory| {
            let before = minor_faults();
            memory.write(value);
            minor_faults() - before
        };
        count(&other.part(0, 1));
        count(self)
    }

    /// Reads one byte of each page; whether all have this value.
    pub fn all_are(&self, value: u8) -> bool {
        self.count(value) == self.pages as u64
    }

    /// Reads one byte of each page; how many have this value.
    pub fn count(&self, value: u8) -> u64 {
        // SAFETY: inside the mapping.
        (0..self.pages).map(|index| u64::from(unsafe { self.page(index).read_volatile() } == value)).sum()
    }

    /// Writes each byte.
    pub fn fill(&self, value: u8) {
        // SAFETY: a whole mapping of ours.
        unsafe { libc::memset(self.start(), c_int::from(value), self.bytes()) };
        // The compiler knows memset, and may drop what nobody reads.
        black_box(self.start);
    }

    /// The first byte.
    pub fn first_byte(&self) -> u8 {
        // SAFETY: inside the mapping.
        unsafe { self.start.read_volatile() }
    }

    /// Reads each byte but the first; whether all have this value.
    pub fn rest_holds_only(&self, value: u8) -> bool {
        // SAFETY: inside the mapping, as no mapping is shorter than two bytes.
        let second = unsafe { self.start.add(1) };
        // All are like the second one if each is like the next one.
        // SAFETY: from the second byte to the last but one, and from the third to the last.
        unsafe {
            second.read_volatile() == value
                && libc::memcmp(second.cast(), second.add(1).cast(), self.bytes() - 2) == 0
        }
    }

    /// Reads each byte; whether all have this value.
    pub fn holds_only(&self, value: u8) -> bool {
        self.first_byte() == value && self.rest_holds_only(value)
    }

    /// mprotect(2), or the end.
    pub fn protect(&self, protection: c_int) {
        // SAFETY: a whole mapping of ours.
        if unsafe { libc::mprotect(self.start(), self.bytes(), protection) } == -1 {
            fail("mprotect");
        }
    }

    /// madvise(2), or the end.
    pub fn advise(&self, advice: c_int, what: &str) {
        // SAFETY: a whole mapping of ours, and no advice that takes content away.
        if unsafe { libc::madvise(self.start(), self.bytes(), advice) } == -1 {
            fail(what);
        }
    }
}
