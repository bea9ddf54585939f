//! What happened in an experiment: its checkpoints, and the events between them.

mod questions;

use std::{collections::BTreeMap, ops::Range};

use cowtrace_abi::Kind;

use super::report::{CheckpointReport, LedgerRow, PAGE_MAP_PAGES, PageMap, ProcessReport};
use crate::{
    ledger,
    model::{Counts, FamilyEvent},
    proc::{Snapshot, Status, Vma},
};
pub(super) use questions::Since;

/// Role of the first process.
pub(super) const PARENT: usize = 0;
/// Role of its child.
pub(super) const CHILD: usize = 1;
/// Role of the child's child, in a step that has one.
pub(super) const GRANDCHILD: usize = 2;

/// The mapping that an experiment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    /// The mapping with this name, such as `[heap]`.
    Named(&'static str),
    /// The mapping with the step's buffer, and what to call it.
    Buffer(&'static str),
}

impl Focus {
    /// What the report calls it.
    pub fn label(self) -> &'static str {
        match self {
            Focus::Named(name) | Focus::Buffer(name) => name,
        }
    }
}

/// A process at a checkpoint.
#[derive(Debug)]
pub(super) struct Observed {
    pub role: usize,
    pub snapshot: Snapshot,
    /// Its sizes and minor faults.
    pub status: Status,
    /// The tracer's counters of it.
    pub counts: Counts,
    /// Addresses of the step's buffer; empty while there is none.
    pub buffer: Range<u64>,
}

impl Observed {
    fn focus(&self, focus: Focus) -> Option<&Vma> {
        match focus {
            Focus::Named(name) => self.snapshot.named(name),
            Focus::Buffer(_) if self.buffer.is_empty() => None,
            Focus::Buffer(_) => self.snapshot.vma_of(self.buffer.start / self.snapshot.page_size),
        }
    }
}

/// A moment at which all processes stand still.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub name: String,
    pub processes: Vec<Observed>,
    /// Since the checkpoint before, or since the start.
    pub events: Vec<FamilyEvent>,
}

/// All checkpoints of an experiment.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub checkpoints: Vec<Checkpoint>,
    /// What the processes are called, by role.
    pub roles: &'static [&'static str],
    /// What the ledger needs to know of the programs.
    pub known: ledger::Known,
}

impl Story {
    /// The ledger from each checkpoint to the next.
    pub fn ledger(&self) -> Vec<LedgerRow> {
        self.checkpoints.windows(2).flat_map(|pair| self.explain(&pair[0], &pair[1])).collect()
    }

    /// The ledger from the checkpoint before to the one with this name.
    pub fn ledger_to(&self, name: &str) -> Option<Vec<LedgerRow>> {
        let pair = self.checkpoints.windows(2).find(|pair| pair[1].name == name)?;
        Some(self.explain(&pair[0], &pair[1]))
    }

    fn explain(&self, before: &Checkpoint, after: &Checkpoint) -> Vec<LedgerRow> {
        fn snapshots(checkpoint: &Checkpoint) -> Vec<&Snapshot> {
            checkpoint.processes.iter().map(|process| &process.snapshot).collect()
        }
        let between = [before.name.clone(), after.name.clone()];
        ledger::explain(&snapshots(before), &after.events, &snapshots(after), self.known.clone())
            .into_iter()
            .map(|row| LedgerRow { between: between.clone(), row })
            .collect()
    }

    /// The checkpoints as the report shows them.
    pub fn checkpoints_report(&self, focus: Focus) -> Vec<CheckpointReport> {
        self.checkpoints
            .iter()
            .map(|checkpoint| CheckpointReport {
                name: checkpoint.name.clone(),
                processes: checkpoint
                    .processes
                    .iter()
                    .map(|process| self.process_report(checkpoint, process, focus))
                    .collect(),
            })
            .collect()
    }

    fn process_report(&self, checkpoint: &Checkpoint, process: &Observed, focus: Focus) -> ProcessReport {
        let smaps = process.focus(focus).cloned();
        let mut faults = BTreeMap::new();
        for event in &checkpoint.events {
            if let (FamilyEvent::Pages { pid, kind, pages, faults: count }, Some(vma)) = (event, &smaps)
                && *pid == process.snapshot.pid
            {
                let page_size = process.snapshot.page_size;
                let inside = questions::inside(pages, *count, page_size, &(vma.start..vma.end));
                if inside > 0 {
                    *faults.entry(word(*kind)).or_default() += inside;
                }
            }
        }
        ProcessReport {
            pid: process.snapshot.pid,
            role: self.roles.get(process.role).copied().unwrap_or("process"),
            mappings: process.snapshot.vmas.len(),
            status: process.status,
            pages: smaps.as_ref().and_then(|vma| page_map(checkpoint, process, vma)),
            smaps,
            faults,
        }
    }
}

/// One letter for each page of a mapping that is not too large.
fn page_map(checkpoint: &Checkpoint, process: &Observed, vma: &Vma) -> Option<PageMap> {
    let snapshot = &process.snapshot;
    let (first, end) = (vma.start / snapshot.page_size, vma.end / snapshot.page_size);
    let length = usize::try_from(end - first).ok().filter(|length| *length <= PAGE_MAP_PAGES)?;
    let state = (first..end)
        .map(|page| match snapshot.anon_page(page) {
            None => '.',
            Some(anon) if anon.mapped_once => 'p',
            Some(_) => 's',
        })
        .collect();
    let mut faulted = vec!['.'; length];
    for event in &checkpoint.events {
        let FamilyEvent::Pages { pid, kind, pages, .. } = event else { continue };
        if *pid != snapshot.pid {
            continue;
        }
        let letter = word(*kind).chars().next().unwrap_or('?');
        for page in pages.iter().filter(|page| (first..end).contains(page)) {
            if let Some(place) = usize::try_from(page - first).ok().and_then(|at| faulted.get_mut(at)) {
                *place = letter;
            }
        }
    }
    Some(PageMap { state, faulted: faulted.into_iter().collect() })
}

/// The report's word for a kind.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Copy => "copy",
        Kind::Zero => "zero",
        Kind::FileAfterRead | Kind::FileFirstWrite => "file",
        Kind::Ksm => "ksm",
        Kind::Hugetlb => "hugetlb",
        Kind::HugetlbReuse | Kind::Reuse => "reuse",
        Kind::Pinned => "pinned",
        Kind::Shared => "shared",
        Kind::Anon => "anon",
        Kind::Denied => "denied",
        Kind::Raced => "raced",
        Kind::HugeSplit => "split",
    }
}
