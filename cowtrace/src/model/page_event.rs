//! Events page by page and in order, for those who must explain each page (the lab's ledger).

use cowtrace_abi::Kind;

/// One step in the life of a family of processes.
///
/// Steps of one process are in order; a process's steps before its fork come before the fork, and the child's
/// after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyEvent {
    /// `parent` created `child`, which shares all its private pages.
    Fork {
        /// Process id of the forking process.
        parent: u32,
        /// Process id of the new one.
        child: u32,
    },
    /// Faults of one kind.
    Pages {
        /// Process id.
        pid: u32,
        /// What the faults were.
        kind: Kind,
        /// Page numbers (address / page size), ascending; a page that was hit twice appears once.
        pages: Vec<u64>,
        /// Number of faults, at least the number of pages.
        faults: u64,
    },
    /// The process became another program: all its mappings are new.
    Exec {
        /// Process id.
        pid: u32,
    },
    /// The process is gone.
    Exit {
        /// Process id.
        pid: u32,
    },
}
