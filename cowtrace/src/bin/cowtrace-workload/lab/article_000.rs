//! The five steps of the first article: from no heap at all to a child that writes to shared memory.

use core::{ffi::c_int, hint::black_box};

use crate::{
    checkpoint::Checkpoints,
    sys::{self, Args, Forked},
};

/// What the article allocates.
const DEFAULT_BYTES: usize = 64 * 1024;

struct Step {
    checkpoints: Checkpoints,
    bytes: usize,
}

impl Step {
    fn new(args: &Args) -> Option<Step> {
        let mut checkpoints = Checkpoints::new(args);
        let bytes = match checkpoints.given(args) {
            0 => DEFAULT_BYTES,
            1 => args.number(2)?,
            _ => return None,
        };
        checkpoints.stop();
        Some(Step { checkpoints, bytes })
    }

    fn allocate(&mut self) -> *mut u8 {
        let buffer = sys::malloc(self.bytes);
        self.checkpoints.buffer(buffer, self.bytes);
        // The compiler knows malloc and memset, and may drop what nobody reads.
        black_box(buffer)
    }

    fn fill(&self, buffer: *mut u8, value: u8) {
        // SAFETY: the buffer was allocated with this size.
        unsafe { libc::memset(buffer.cast(), c_int::from(value), self.bytes) };
        black_box(buffer);
    }
}

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"no-heap" => no_heap(args),
        b"heap-untouched" => heap_untouched(args),
        b"heap-touched" => heap_touched(args),
        b"fork-shared" => fork_shared(args),
        b"child-writes" => child_writes(args),
        _ => None,
    }
}

/// Does nothing: a process without a heap.
fn no_heap(args: &Args) -> Option<c_int> {
    Step::new(args)?.checkpoints.stop();
    Some(0)
}

/// Allocates, and leaves the memory alone.
fn heap_untouched(args: &Args) -> Option<c_int> {
    let mut step = Step::new(args)?;
    step.allocate();
    step.checkpoints.stop();
    Some(0)
}

/// Allocates and writes to all of it.
fn heap_touched(args: &Args) -> Option<c_int> {
    let mut step = Step::new(args)?;
    let buffer = step.allocate();
    step.fill(buffer, 1);
    step.checkpoints.stop();
    Some(0)
}

/// Allocates, writes, forks; nobody writes any more.
fn fork_shared(args: &Args) -> Option<c_int> {
    fork_step(args, |_, _| {})
}

/// As [`fork_shared`], then the child writes to the whole buffer.
fn child_writes(args: &Args) -> Option<c_int> {
    fork_step(args, |step, buffer| {
        step.fill(buffer, 2);
        step.checkpoints.stop();
    })
}

fn fork_step(args: &Args, in_child: fn(&mut Step, *mut u8)) -> Option<c_int> {
    let mut step = Step::new(args)?;
    let buffer = step.allocate();
    step.fill(buffer, 1);
    step.checkpoints.stop();
    match sys::fork() {
        Forked::Child => {
            step.checkpoints.become_child();
            step.checkpoints.stop();
            in_child(&mut step, buffer);
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            step.checkpoints.stop();
            Some(sys::wait(child))
        }
    }
}
