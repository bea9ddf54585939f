//! Where the script's objects are, page by page, as it reports in samples.

use std::ops::Range;

use crate::lab::{story::Observed, workload::VALUES};

// What a sample is about: its first figure. The script has the same list.
const TEXTS: u64 = 0;
const HEADERS: u64 = 1;
const NUMBERS: u64 = 2;
const PYTHON: u64 = 3;

/// Python 3.7, with `gc.freeze`.
const LEAST: u64 = 0x0307_0000;

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

/// What the script says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Pages with the reference counts of the strings.
    pub texts: Pages,
    /// Pages with what the collector notes in front of the instances.
    pub headers: Pages,
    /// Pages of the array of plain numbers.
    pub numbers: Pages,
    /// Which Python it is.
    pub python: Python,
}

/// An implementation and its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Python {
    /// As in `sys.hexversion`.
    hexversion: u64,
    cpython: bool,
    /// Built for threads without a common lock: counts and collector are other ones.
    free_threaded: bool,
}

impl Memory {
    pub fn new(samples: &[[u64; VALUES]]) -> Memory {
        let mut memory = Memory::default();
        for &[what, first, second, third] in samples {
            let pages = match what {
                TEXTS => &mut memory.texts,
                HEADERS => &mut memory.headers,
                NUMBERS => &mut memory.numbers,
                PYTHON => {
                    memory.python =
                        Python { hexversion: first, cpython: second != 0, free_threaded: third != 0 };
                    continue;
                }
                _ => continue,
            };
            pages.runs.push(first..first.saturating_add(second));
        }
        memory
    }
}

impl Python {
    /// What is special about it, if its counts or its collector are not the usual ones.
    pub fn setting(self) -> Option<String> {
        self.free_threaded.then(|| {
            format!(
                "this is the free-threaded build of {self}: its collector keeps no list of objects, and its \
                 reference counts are others"
            )
        })
    }

    /// Why the script says nothing in it, if so.
    pub fn lack(self) -> Option<String> {
        if !self.cpython {
            return Some("the python3 on PATH is not CPython, and so may count no references".into());
        }
        (self.hexversion < LEAST).then(|| format!("{self} on PATH has no gc.freeze(); 3.7 and later have"))
    }
}

impl std::fmt::Display for Python {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |shift: u32| self.hexversion >> shift & 0xff;
        write!(f, "Python {}.{}.{}", part(24), part(16), part(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_tell_pages_and_version() {
        let memory = Memory::new(&[
            [TEXTS, 100, 50, 0],
            [TEXTS, 200, 1, 0],
            [NUMBERS, 7, 3, 0],
            [PYTHON, 0x030b_07f0, 1, 0],
            [99, 1, 2, 3],
        ]);
        assert_eq!((memory.texts.count(), memory.numbers.count(), memory.headers.count()), (51, 3, 0));
        let inside = [99, 100, 149, 150, 199, 200, 201].map(|page| memory.texts.contains(page));
        assert_eq!(inside, [false, true, true, false, false, true, false]);
        assert_eq!(memory.python.to_string(), "Python 3.11.7");
        assert_eq!(memory.python.setting(), None);
    }

    #[test]
    fn other_pythons_are_named() {
        let python = |hexversion, cpython, free_threaded| Python { hexversion, cpython, free_threaded };
        assert!(python(0x030d_02f0, true, true).setting().unwrap().contains("Python 3.13.2"));
        assert_eq!(python(0x030d_02f0, true, true).lack(), None);
        assert!(python(0x030d_02f0, false, false).lack().unwrap().contains("not CPython"));
        assert!(python(0x0306_09f0, true, false).lack().unwrap().contains("Python 3.6.9"));
    }
}
