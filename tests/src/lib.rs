//! What the live tests share: running cowtrace, the kernel's own counts, and settings that are put back.

mod attached;
mod compare;
mod kernel;
mod program;
mod run;
mod taskstats;

use std::{
    fs::File,
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use attached::{Attached, send};
pub use compare::{Comparison, compare, forks_sum_up, regions_sum_up, solved_faults};
pub use kernel::{Setting, counters_are_prompt, counts_copies, heap_pages, page_size};
pub use program::{program, shared_copy};
pub use run::{
    MARKER_UID, Traced, again_while_lost, backend, cowtrace, field, finish, found, in_memory, number,
    process, processes, rounds, scratch, shell, text, top_region, trace, traced_as_marker, tracer, workload,
};
pub use taskstats::{Exited, Listener};

static SERIAL: Mutex<()> = Mutex::new(());
const LOCK: &str = "/run/cowtrace-live-tests.lock";

/// The right to trace.
pub struct Live {
    _machine: Option<File>,
    _here: MutexGuard<'static, ()>,
}

/// The right to trace, for as long as it is held; `None`, with the reason printed, where tracing is not possible.
///
/// Tests that trace run one at a time: each would be in the others' numbers.
pub fn live(test: &str) -> Option<Live> {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        skip(test, "tracing needs root; run `cargo xtask test`, which asks for it");
        return None;
    }
    if !kernel::is_supported() {
        skip(test, "the tracepoint backend refuses kernels before 6.2; a test of its own holds it to that");
        return None;
    }
    // A test that failed has let go of what it held.
    let here = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    // Another run of the suite would change the same kernel settings, and put them back in between.
    let machine = File::create(LOCK).and_then(|file| file.lock().map(|()| file));
    if let Err(error) = &machine {
        say(&format!("another run of the suite would not be noticed: {LOCK}: {error}"));
    }
    Some(Live { _machine: machine.ok(), _here: here })
}

/// Says why a test, or a part of one, is left out. Not by `eprintln`, which the test harness hides.
pub fn skip(test: &str, why: &str) {
    say(&format!("skipped: {test}: {why}"));
}

/// Prints a line that is seen even when the test passes.
pub fn say(line: &str) {
    // A reader that is gone is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "    {line}");
}

/// Takes the right to trace, or leaves the test with success.
#[macro_export]
macro_rules! live {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here).trim_end_matches("::here");
        match $crate::live(name) {
            Some(guard) => guard,
            None => return Ok(()),
        }
    }};
}
