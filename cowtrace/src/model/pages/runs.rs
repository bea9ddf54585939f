//! Lists of runs that are bounded: the longest stay.

use super::{LeftOut, PageRun};

/// A run, and what is needed to explain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) run: PageRun,
    /// Index of its mapping.
    pub(super) region: Option<usize>,
    /// No earlier than its last hit.
    pub(super) last_ns: u64,
    /// Kinds of replacements in its windows.
    pub(super) kinds: u16,
}

/// A list with a bound.
#[derive(Debug)]
pub(super) struct Runs {
    runs: Vec<Run>,
    most: usize,
    left_out: LeftOut,
}

impl Runs {
    pub(super) fn new(most: usize) -> Runs {
        Runs { runs: Vec::new(), most, left_out: LeftOut::default() }
    }

    pub(super) fn push(&mut self, run: Run) {
        self.runs.push(run);
        if self.runs.len() >= self.most.saturating_mul(2).max(64) {
            self.prune();
        }
    }

    /// Takes out the shortest of those that are too many.
    fn prune(&mut self) {
        if self.runs.len() <= self.most {
            return;
        }
        self.runs.sort_by_key(|run| (std::cmp::Reverse(run.run.pages), run.run.start));
        for run in self.runs.drain(self.most..) {
            self.left_out.add(&run.run);
        }
    }

    /// By address.
    pub(super) fn finish(mut self) -> (Vec<Run>, LeftOut) {
        self.prune();
        self.runs.sort_by_key(|run| run.run.start);
        (self.runs, self.left_out)
    }
}
