//! Programs about processes themselves: how they come, change and go.

use core::{ffi::c_int, fmt::Write};

use crate::sys::{self, Forked, Line, Memory};

/// Becomes itself again and again, `left` times, then exits.
pub fn exec_chain(left: usize) -> Option<c_int> {
    let mut number = Line::new();
    // The last link needs no program of its own: a chain of N is N execs of this file, the first by the
    // caller.
    if left == 1 {
        return Some(0);
    }
    write!(number, "{}\0", left - 1).ok()?;
    let argv = [
        c"cowtrace-workload".as_ptr(),
        c"exec-chain".as_ptr(),
        number.bytes().as_ptr().cast(),
        core::ptr::null(),
    ];
    // SAFETY: NUL-terminated strings and lists.
    unsafe { libc::execv(c"/proc/self/exe".as_ptr(), argv.as_ptr()) };
    sys::fail("exec of /proc/self/exe")
}

/// A binary tree of processes: each but the leaves forks two, each but the root copies one page.
pub fn fork_tree(depth: usize) -> Option<c_int> {
    let memory = Memory::touched(1);
    Some(grow(memory, depth))
}

fn grow(memory: Memory, depth: usize) -> c_int {
    if depth == 0 {
        return 0;
    }
    let mut children = [0; 2];
    for child in &mut children {
        match sys::fork() {
            Forked::Child => {
                sys::die_with_parent();
                memory.write(2);
                sys::exit_now(grow(memory, depth - 1))
            }
            Forked::Parent(pid) => *child = pid,
        }
    }
    children.iter().map(|&child| sys::wait(child)).fold(0, c_int::max)
}

/// Waits for signals, until one ends it.
pub fn sleep_forever() -> Option<c_int> {
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

/// Sends itself a signal; exits with 1 if that does not end it.
pub fn signal_self(signal: usize) -> Option<c_int> {
    sys::no_core();
    let signal = c_int::try_from(signal).ok()?;
    // SAFETY: a signal to this process.
    if unsafe { libc::kill(libc::getpid(), signal) } == -1 {
        sys::fail("kill");
    }
    Some(1)
}
