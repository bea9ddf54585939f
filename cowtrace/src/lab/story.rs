//! What happened in an experiment: its checkpoints, the events between them, and questions about both.

use std::collections::BTreeMap;

use cowtrace_abi::Kind;

use super::report::{CheckpointReport, LedgerRow, ProcessReport};
use crate::{
    ledger,
    model::{Counts, FamilyEvent},
    proc::{Snapshot, Vma},
};

/// Names of the roles, in the order of their numbers.
pub(super) const ROLES: [&str; 4] = ["parent", "child", "grandchild", "great-grandchild"];
/// Role of the first process.
pub(super) const PARENT: usize = 0;
/// Role of its child.
pub(super) const CHILD: usize = 1;

/// A process at a checkpoint.
#[derive(Debug)]
pub(super) struct Observed {
    pub role: usize,
    pub snapshot: Snapshot,
    /// The tracer's counters of it.
    pub counts: Counts,
}

/// A moment at which all processes stand still.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub name: &'static str,
    pub processes: Vec<Observed>,
    /// Since the checkpoint before, or since the start.
    pub events: Vec<FamilyEvent>,
}

/// All checkpoints of an experiment.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub checkpoints: Vec<Checkpoint>,
}

impl Story {
    fn last(&self) -> Option<&Checkpoint> {
        self.checkpoints.last()
    }

    /// The process with this role, as it was last seen.
    pub fn process(&self, role: usize) -> Option<&Observed> {
        self.last()?.processes.iter().find(|process| process.role == role)
    }

    /// The same at the checkpoint before the last.
    pub fn process_before(&self, role: usize) -> Option<&Observed> {
        let before = self.checkpoints.len().checked_sub(2)?;
        self.checkpoints[before].processes.iter().find(|process| process.role == role)
    }

    /// A mapping of this role, at the last checkpoint.
    pub fn mapping(&self, role: usize, name: &str) -> Option<&Vma> {
        self.process(role)?.snapshot.named(name)
    }

    /// Faults of a kind in a mapping, over the life of the present program.
    pub fn faults_in(&self, role: usize, name: &str, kind: Kind) -> Option<u64> {
        let vma = self.mapping(role, name)?;
        Some(self.faults(role, 0).filter(|(of, _)| *of == kind).map(|(_, event)| event.inside(vma)).sum())
    }

    /// Faults of any kind in a mapping since the checkpoint before the last.
    pub fn recent_faults_in(&self, role: usize, name: &str) -> Option<u64> {
        let vma = self.mapping(role, name)?;
        let last = self.checkpoints.len().checked_sub(1)?;
        Some(self.faults(role, last).map(|(_, event)| event.inside(vma)).sum())
    }

    /// Faults of a kind anywhere, over the life of the present program.
    pub fn faults_of(&self, role: usize, kind: Kind) -> Option<u64> {
        self.process(role)?;
        Some(self.faults(role, 0).filter(|(of, _)| *of == kind).map(|(_, event)| event.faults).sum())
    }

    /// Fault events of a process's present program from a checkpoint's events on.
    fn faults(&self, role: usize, from: usize) -> impl Iterator<Item = (Kind, Faults<'_>)> {
        let pid = self.process(role).map(|process| process.snapshot.pid);
        let page_size = self.process(role).map_or(1, |process| process.snapshot.page_size);
        let events: Vec<&FamilyEvent> =
            self.checkpoints.get(from..).unwrap_or_default().iter().flat_map(|c| &c.events).collect();
        let program =
            events.iter().rposition(|event| matches!(event, FamilyEvent::Exec { pid: p } if Some(*p) == pid));
        let first = program.map_or(0, |exec| exec + 1);
        events.into_iter().skip(first).filter_map(move |event| match event {
            FamilyEvent::Pages { pid: of, kind, pages, faults } if Some(*of) == pid => {
                Some((*kind, Faults { pages, faults: *faults, page_size }))
            }
            _ => None,
        })
    }

    /// The ledger from each checkpoint to the next.
    pub fn ledger(&self) -> Vec<LedgerRow> {
        let snapshots = |checkpoint: &Checkpoint| -> Vec<Snapshot> {
            checkpoint.processes.iter().map(|process| process.snapshot.clone()).collect()
        };
        self.checkpoints
            .windows(2)
            .flat_map(|pair| {
                let between = [pair[0].name.to_owned(), pair[1].name.to_owned()];
                ledger::explain(&snapshots(&pair[0]), &pair[1].events, &snapshots(&pair[1]))
                    .into_iter()
                    .map(move |row| LedgerRow { between: between.clone(), row })
            })
            .collect()
    }

    /// The checkpoints as the report shows them.
    pub fn checkpoints_report(&self, focus: &str) -> Vec<CheckpointReport> {
        self.checkpoints
            .iter()
            .enumerate()
            .map(|(index, checkpoint)| CheckpointReport {
                name: checkpoint.name.to_owned(),
                processes: checkpoint
                    .processes
                    .iter()
                    .map(|process| self.process_report(index, process, focus))
                    .collect(),
            })
            .collect()
    }

    fn process_report(&self, index: usize, process: &Observed, focus: &str) -> ProcessReport {
        let smaps = process.snapshot.named(focus).cloned();
        let mut faults = BTreeMap::new();
        for event in &self.checkpoints[index].events {
            if let (FamilyEvent::Pages { pid, kind, pages, faults: count }, Some(vma)) = (event, &smaps)
                && *pid == process.snapshot.pid
            {
                let inside =
                    Faults { pages, faults: *count, page_size: process.snapshot.page_size }.inside(vma);
                if inside > 0 {
                    *faults.entry(word(*kind)).or_default() += inside;
                }
            }
        }
        ProcessReport {
            pid: process.snapshot.pid,
            role: ROLES[process.role],
            mappings: process.snapshot.vmas.len(),
            smaps,
            faults,
        }
    }
}

/// The pages of one event.
struct Faults<'a> {
    pages: &'a [u64],
    faults: u64,
    page_size: u64,
}

impl Faults<'_> {
    /// Faults in this mapping. Faults beyond one per page are not told apart by page, and counted where any
    /// page is.
    fn inside(&self, vma: &Vma) -> u64 {
        let inside = self.pages.iter().filter(|&&page| vma.contains(page * self.page_size)).count() as u64;
        if inside == 0 { 0 } else { inside + self.faults.saturating_sub(self.pages.len() as u64) }
    }
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
    }
}
