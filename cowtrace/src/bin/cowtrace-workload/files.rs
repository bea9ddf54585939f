//! Programs that write to mapped files: private ones copy from the page cache, shared ones do not.

use core::ffi::{CStr, c_int};

use crate::sys::{self, Memory};

fn map(path: &CStr, pages: usize, open: c_int, mapping: c_int) -> Memory {
    let fd = sys::open(path, open);
    if sys::file_size(fd) / sys::page_size() < pages {
        sys::write(2, b"cowtrace-workload: the file has fewer pages than are to be mapped\n");
        sys::exit_now(1);
    }
    Memory::map(pages, mapping, fd)
}

fn read_all(memory: &Memory) {
    // Whatever the file holds: it is the reading that matters.
    core::hint::black_box(memory.all_are(0));
}

/// Private: each page read, then written.
pub fn read_write(path: &CStr, pages: usize) -> Option<c_int> {
    let memory = map(path, pages, libc::O_RDONLY, libc::MAP_PRIVATE);
    read_all(&memory);
    memory.write(1);
    Some(0)
}

/// Private: each page written at once.
pub fn write_first(path: &CStr, pages: usize) -> Option<c_int> {
    map(path, pages, libc::O_RDONLY, libc::MAP_PRIVATE).write(1);
    Some(0)
}

/// Shared: written, saved (which write-protects the pages, to see what becomes dirty), written again.
pub fn shared(path: &CStr, pages: usize) -> Option<c_int> {
    let memory = map(path, pages, libc::O_RDWR, libc::MAP_SHARED);
    memory.write(1);
    // SAFETY: a whole mapping of ours.
    if unsafe { libc::msync(memory.start(), memory.bytes(), libc::MS_SYNC) } == -1 {
        sys::fail("msync");
    }
    memory.write(2);
    Some(0)
}
