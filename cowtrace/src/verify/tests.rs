//! What the unit tests of this module share.

use crate::model::{BackendFacts, Faults, Process};

/// A traced process that has ended, with this many copies and no other fault.
pub(super) fn process(pid: u32, copies: u64) -> Process {
    let none = Some(0);
    Process {
        ns_pid: None,
        pid,
        ppid: 1,
        comm: "x".to_owned(),
        cmdline: Vec::new(),
        forked_from: None,
        start_ns: 1_000_000,
        end_ns: Some(2_000_000),
        faults: Faults {
            copy: Some(copies),
            zero: none,
            file: none,
            ksm: none,
            hugetlb: none,
            pinned: None,
            reuse: none,
            shared: none,
            anon: none,
            denied: none,
        },
        wpcopy: Some(copies),
        raced: None,
        cow_ns: None,
        thp_splits: None,
        copied_bytes: Some(copies * 4096),
        anon_bytes: 0,
        regions: Vec::new(),
        pages: None,
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
