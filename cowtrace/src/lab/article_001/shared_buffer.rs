//! What the experiments with one buffer, shared by a parent and its child, have in common.

use crate::{
    lab::story::{CHILD, Focus, PARENT, Story},
    proc::Vma,
};

pub(super) const ROLES: &[&str] = &["parent", "child"];
pub(super) const BOTH: [(usize, &str); 2] = [(PARENT, "parent"), (CHILD, "child")];
pub(super) const BUFFER: Focus = Focus::Buffer("the buffer");

/// The checkpoint before the fork, and the one after it.
pub(super) const FILLED: &str = "filled";
pub(super) const FORKED: &str = "forked";

/// Most minor faults that a step of the child takes outside of the buffer: pages of its program, whose
/// entries fork does not copy, and the thread's data, to which the kernel may write.
pub(super) const OTHER_FAULTS: u64 = 8;

/// How large the buffer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Its pages.
    pub pages: u64,
    page_bytes: u64,
}

impl Extent {
    /// As many pages as there are in this many bytes.
    pub fn of_bytes(bytes: u64) -> Extent {
        let page_bytes = procfs::page_size();
        Extent { pages: bytes / page_bytes, page_bytes }
    }

    /// Bytes of this many pages, in kB as smaps has them.
    pub fn kb(self, pages: u64) -> u64 {
        pages * self.page_bytes / 1024
    }

    /// All of it, in kB.
    pub fn all_kb(self) -> u64 {
        self.kb(self.pages)
    }
}

/// Minor faults of a process from one checkpoint to another, as the kernel counts them.
pub(super) fn minor_faults(story: &Story, role: usize, from: &str, to: &str) -> Option<u64> {
    let faults = |name| story.status_at(name, role).map(|status| status.minor_faults);
    faults(to)?.checked_sub(faults(from)?)
}

/// A figure of both processes' buffer in smaps, added up; kB.
pub(super) fn sum_kb(story: &Story, checkpoint: &str, figure: fn(&Vma) -> u64) -> Option<u64> {
    let of = |role| story.buffer_at(checkpoint, role).map(figure);
    Some(of(PARENT)? + of(CHILD)?)
}
