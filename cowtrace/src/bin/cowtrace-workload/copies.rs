//! Programs that fork and write: each makes a known number of copies, or none where one might expect some.

use core::{
    ffi::{c_int, c_void},
    fmt::Write,
};

use crate::sys::{self, Forked, Line, Memory};

fn in_child(work: impl FnOnce() -> c_int) -> c_int {
    match sys::fork() {
        Forked::Child => {
            sys::die_with_parent();
            sys::exit_now(work())
        }
        Forked::Parent(child) => sys::wait(child),
    }
}

/// The child times one written byte per page, and says so in one line.
pub fn bench(pages: usize) -> Option<c_int> {
    let memory = Memory::touched(pages);
    Some(in_child(|| {
        // The first call faults in the clock's own pages.
        sys::now_ns();
        let start = sys::now_ns();
        memory.write(2);
        let ns = sys::now_ns() - start;
        let mut line = Line::new();
        let fits = writeln!(line, "{{\"pages\":{pages},\"ns\":{ns}}}").is_ok();
        c_int::from(!fits || !sys::write(1, line.bytes()))
    }))
}

/// Children one after the other, each copying all pages.
pub fn write(pages: usize, children: usize) -> Option<c_int> {
    let memory = Memory::touched(pages);
    for _ in 0..children {
        let status = in_child(|| {
            memory.write(2);
            0
        });
        if status != 0 {
            return Some(status);
        }
    }
    Some(0)
}

/// The child is gone when the parent writes again: each page is a write-protect fault without a copy.
pub fn reuse(pages: usize) -> Option<c_int> {
    // A page that waits in another CPU's batch for the LRU lists has one reference more, and would be copied.
    sys::stay_on_one_cpu();
    let memory = Memory::touched(pages);
    let status = in_child(|| 0);
    memory.write(2);
    Some(status)
}

/// The child's writes to shared memory are seen by the parent.
pub fn map_shared(pages: usize) -> Option<c_int> {
    let memory = Memory::map(pages, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
    memory.write(1);
    let status = in_child(|| {
        memory.write(2);
        0
    });
    Some(if memory.all_are(2) { status } else { 1 })
}

/// The kernel writes to the child's pages, on its behalf.
pub fn kernel_write(pages: usize) -> Option<c_int> {
    let memory = Memory::touched(pages);
    let zeros = sys::open(c"/dev/zero", libc::O_RDONLY);
    Some(in_child(|| {
        let mut done = 0;
        while done < memory.bytes() {
            // SAFETY: the rest of the mapping.
            let got = unsafe { libc::read(zeros, memory.start().byte_add(done), memory.bytes() - done) };
            match usize::try_from(got) {
                Ok(bytes) if bytes > 0 => done += bytes,
                _ => sys::fail("read from /dev/zero"),
            }
        }
        0
    }))
}

/// Most threads that [`threads`] starts; their handles are on the stack.
const MAX_THREADS: usize = 256;

/// Threads of the child each copy their own share of the pages.
pub fn threads(count: usize, pages: usize) -> Option<c_int> {
    if count > MAX_THREADS {
        sys::write(2, b"cowtrace-workload: threads: at most 256\n");
        return None;
    }
    let memory = Memory::touched(pages);
    Some(in_child(|| {
        let whole = memory.part(0, pages);
        let mut shares = [whole; MAX_THREADS];
        // SAFETY: a thread handle is a number, for which zero is as good as any until it is written.
        let mut handles: [libc::pthread_t; MAX_THREADS] = unsafe { core::mem::zeroed() };
        for index in 0..count {
            shares[index] = memory.part(index * pages / count, (index + 1) * pages / count);
            let share: *mut Memory = &mut shares[index];
            // SAFETY: the share outlives the thread, which is joined below.
            let error = unsafe {
                libc::pthread_create(&mut handles[index], core::ptr::null(), write_share, share.cast())
            };
            if error != 0 {
                sys::fail("pthread_create");
            }
        }
        for &handle in &handles[..count] {
            // SAFETY: created above, joined once.
            unsafe { libc::pthread_join(handle, core::ptr::null_mut()) };
        }
        0
    }))
}

extern "C" fn write_share(share: *mut c_void) -> *mut c_void {
    // SAFETY: the pointer that `threads` passed.
    let share = unsafe { *share.cast::<Memory>() };
    share.write(2);
    core::ptr::null_mut()
}
