//! The pages of a process, as the report has them.

use serde::{Deserialize, Serialize};

use super::PageStrips;
use crate::model::report::{from_hex, hex, is_zero};

/// Which pages of a process were copied, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessPages {
    /// Pages that were copied at least once because they were shared since a fork.
    pub pages: u64,
    /// Sum of their copies.
    pub copies: u64,
    /// Pages that another came in the place of: zero, file, ksm, hugetlb, pinned.
    pub replaced_pages: u64,
    /// Sum of these.
    pub replacements: u64,
    /// Pages that were copied, or replaced, more than once, and why: by address.
    pub repeated: Vec<RepeatedPages>,
    /// What is not in [`ProcessPages::repeated`], as there are more runs than are listed.
    #[serde(default, skip_serializing_if = "LeftOut::is_none")]
    pub repeated_left_out: LeftOut,
    /// All pages, as runs of neighbours with the same counts: by address.
    pub map: Vec<PageRun>,
    /// What is not in [`ProcessPages::map`], as there are more runs than are listed: the shortest.
    #[serde(default, skip_serializing_if = "LeftOut::is_none")]
    pub map_left_out: LeftOut,
    /// Copies and replacements of pages that found no room (`--max-pages`).
    pub overflow: u64,
    /// Copies and replacements in the memory of another process, or by a system call of which it is not known what page it
    /// wrote to.
    pub unplaced: u64,
    /// The map by mapping, in cells, to be drawn; of the heaviest processes.
    #[serde(skip)]
    pub strips: PageStrips,
}

/// Neighbouring pages with the same counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PageRun {
    /// First address.
    #[serde(serialize_with = "hex", deserialize_with = "from_hex")]
    pub start: u64,
    /// How many.
    pub pages: u64,
    /// How often each was copied.
    pub copies: u32,
    /// How often each was replaced.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replacements: u32,
}

/// Neighbouring pages that were copied or replaced equally often, more than once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepeatedPages {
    /// Which, and how often.
    #[serde(flatten)]
    pub run: PageRun,
    /// Name of the mapping; empty for unnamed anonymous memory.
    pub region: String,
    /// What explains it.
    pub why: String,
}

/// What a bounded list has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeftOut {
    /// Runs.
    pub runs: u64,
    /// Their pages.
    pub pages: u64,
    /// Their copies.
    pub copies: u64,
    /// Their replacements.
    pub replacements: u64,
}

impl LeftOut {
    /// Whether the list is whole.
    pub fn is_none(&self) -> bool {
        *self == LeftOut::default()
    }

    pub(super) fn add(&mut self, run: &PageRun) {
        self.runs += 1;
        self.pages += run.pages;
        self.copies += run.pages * u64::from(run.copies);
        self.replacements += run.pages * u64::from(run.replacements);
    }
}
