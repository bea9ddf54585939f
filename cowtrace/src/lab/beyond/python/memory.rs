//! Where the script's objects are, page by page, as it reports in samples.

use std::ops::Range;

use crate::lab::{story::Observed, workload::VALUES};

// What the pages in a sample hold: its first figure. The script has the same list.
const TEXTS: u64 = 0;
const HEADERS: u64 = 1;
const NUMBERS: u64 = 2;

/// Some pages of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    /// Apart from each other, by page number.
    runs: Vec<Range<u64>>,
}

impl Pages {
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    pub fn contains(&self, page: u64) -> bool {
        let after = self.runs.partition_point(|run| run.start <= page);
        after.checked_sub(1).is_some_and(|index| self.runs[index].contains(&page))
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().cloned().flatten()
    }

    /// Those that the process maps alone.
    pub fn private(&self, process: &Observed) -> u64 {
        let alone = |page: &u64| process.snapshot.anon_page(*page).is_some_and(|anon| anon.mapped_once);
        self.iter().filter(alone).count() as u64
    }
}

/// Where the script has what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Pages with the reference counts of the strings.
    pub texts: Pages,
    /// Pages with what the collector notes in front of the instances.
    pub headers: Pages,
    /// Pages of the array of plain numbers.
    pub numbers: Pages,
}

impl Memory {
    pub fn new(samples: &[[u64; VALUES]]) -> Memory {
        let mut memory = Memory::default();
        for &[what, first, length, _] in samples {
            let pages = match what {
                TEXTS => &mut memory.texts,
                HEADERS => &mut memory.headers,
                NUMBERS => &mut memory.numbers,
                _ => continue,
            };
            pages.runs.push(first..first.saturating_add(length));
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_runs_of_pages() {
        let memory =
            Memory::new(&[[TEXTS, 100, 50, 0], [TEXTS, 200, 1, 0], [NUMBERS, 7, 3, 0], [99, 1, 2, 3]]);
        assert_eq!((memory.texts.count(), memory.numbers.count(), memory.headers.count()), (51, 3, 0));
        let inside = [99, 100, 149, 150, 199, 200, 201].map(|page| memory.texts.contains(page));
        assert_eq!(inside, [false, true, true, false, false, true, false]);
    }
}
