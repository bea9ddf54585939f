//! What the unit tests of this module share.

use crate::{
    export::human_tests,
    model::{BackendFacts, Process},
};

/// A traced process that has ended, with this many copies and no other fault.
pub(super) fn process(pid: u32, copies: u64) -> Process {
    Process {
        ppid: 1,
        comm: "x".to_owned(),
        cmdline: Vec::new(),
        start_ns: 1_000_000,
        end_ns: Some(2_000_000),
        ..human_tests::process(pid, None, human_tests::faults(copies, 0, 0, 0, 0), Vec::new())
    }
}

/// One that does not see all.
pub(super) fn backend() -> BackendFacts {
    BackendFacts {
        name: "tracepoint".to_owned(),
        blind_to: vec!["gup".to_owned(), "pinned".to_owned()],
        unknown: vec!["raced: not seen".to_owned()],
    }
}
