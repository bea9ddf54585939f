//! One size of the ladder, and what was timed there.

use super::MIB;
use crate::lab::{size::Bytes, statistics::median};

/// What the source measures.
const SOURCE_SIZES: [u64; 3] = [MIB, 10 * MIB, 50 * MIB];
/// Beyond the source.
const LARGER_SIZES: [u64; 4] = [100 * MIB, 250 * MIB, 500 * MIB, 1024 * MIB];
/// As many as the source has.
const SOURCE_FORKS: u64 = 100;
/// So much is copied at each larger size, all children together: some seconds.
const COPIED: u64 = 2_500 * MIB;

/// What was timed for one child, ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    /// fork(2), in the parent.
    pub fork_ns: u64,
    /// Writing the block, in the child; 0 if it wrote nothing.
    pub write_ns: u64,
    /// From before the fork until the child was waited for.
    pub whole_ns: u64,
    /// The child's process id.
    pub child: u64,
}

impl From<[u64; 4]> for Cycle {
    fn from([fork_ns, write_ns, whole_ns, child]: [u64; 4]) -> Cycle {
        Cycle { fork_ns, write_ns, whole_ns, child }
    }
}

/// One size.
#[derive(Debug)]
pub(super) struct Rung {
    /// Of the block.
    pub bytes: u64,
    /// Children that do nothing, and as many that write.
    pub forks: u64,
    /// Those that do nothing.
    pub idle: Vec<Cycle>,
    /// Those that write.
    pub writing: Vec<Cycle>,
}

/// The sizes up to the largest, and how many forks each gets.
pub(super) fn ladder(largest: u64) -> Vec<Rung> {
    let known = SOURCE_SIZES.into_iter().chain(LARGER_SIZES).filter(|&bytes| bytes < largest);
    known
        .chain([largest])
        .map(|bytes| Rung { bytes, forks: forks(bytes), idle: Vec::new(), writing: Vec::new() })
        .collect()
}

fn forks(bytes: u64) -> u64 {
    if bytes <= SOURCE_SIZES[2] { SOURCE_FORKS } else { (COPIED / bytes).clamp(5, SOURCE_FORKS) }
}

impl Rung {
    /// Of the block.
    pub fn mib(&self) -> f64 {
        self.bytes as f64 / MIB as f64
    }

    /// Name of the checkpoint before the first fork.
    pub fn filled(&self) -> String {
        format!("{} filled", Bytes(self.bytes))
    }

    /// Name of the checkpoint after the children that do nothing.
    pub fn idled(&self) -> String {
        format!("{} not written", Bytes(self.bytes))
    }

    /// Name of the checkpoint after the children that write.
    pub fn written(&self) -> String {
        format!("{} written", Bytes(self.bytes))
    }

    /// fork alone, median of the children that do nothing.
    pub fn fork_ns(&self) -> Option<u64> {
        median(self.idle.iter().map(|cycle| cycle.fork_ns))
    }

    /// The fastest of these: what fork takes if nothing comes in between.
    pub fn fastest_fork_ns(&self) -> Option<u64> {
        self.idle.iter().map(|cycle| cycle.fork_ns).min()
    }

    /// fork alone, median of the children that write.
    pub fn writing_fork_ns(&self) -> Option<u64> {
        median(self.writing.iter().map(|cycle| cycle.fork_ns))
    }

    /// From fork to the end of a child that does nothing, median.
    pub fn idle_whole_ns(&self) -> Option<u64> {
        median(self.idle.iter().map(|cycle| cycle.whole_ns))
    }

    /// The same for a child that writes.
    pub fn writing_whole_ns(&self) -> Option<u64> {
        median(self.writing.iter().map(|cycle| cycle.whole_ns))
    }

    /// Writing the block in the child, median.
    pub fn write_ns(&self) -> Option<u64> {
        median(self.writing.iter().map(|cycle| cycle.write_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_the_sources_unless_it_is_to_be_longer() {
        let sizes = |largest| ladder(largest).iter().map(|r| (r.bytes / MIB, r.forks)).collect::<Vec<_>>();
        assert_eq!(sizes(50 * MIB), [(1, 100), (10, 100), (50, 100)]);
        assert_eq!(sizes(70 * MIB), [(1, 100), (10, 100), (50, 100), (70, 35)]);
        assert_eq!(
            sizes(1 << 30),
            [(1, 100), (10, 100), (50, 100), (100, 25), (250, 10), (500, 5), (1024, 5)]
        );
        assert_eq!(sizes(8 << 30).last(), Some(&(8192, 5)));
    }
}
