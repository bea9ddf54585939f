//! Processes that have ended and are no longer told one by one, and the sums of a report that include them.

use serde::{Deserialize, Serialize};

use super::{CowTime, Faults, Process, Report};

/// What ended processes of one command name have counted, which are not among [`Report::processes`] any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Folded {
    /// Their last command name; [`OTHER_NAMES`] where there were too many names.
    pub comm: String,
    /// How many there were.
    pub processes: u64,
    /// Their counts by kind.
    pub faults: Faults,
    /// As in [`Process::wpcopy`].
    pub wpcopy: Option<u64>,
    /// As in [`Process::raced`].
    pub raced: Option<u64>,
    /// As in [`Process::thp_splits`].
    pub thp_splits: Option<u64>,
    /// As in [`Process::copied_bytes`].
    pub copied_bytes: Option<u64>,
    /// As in [`Process::anon_bytes`].
    pub anon_bytes: u64,
    /// How long their copies took, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cow_ns: Option<CowTime>,
    /// The forks that made them.
    pub forks: FoldedForks,
}

/// The name of all that found no room among the names.
pub const OTHER_NAMES: &str = "[others]";

/// Forks that have ended, and are not among [`Report::forks`] any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FoldedForks {
    /// Forks whose child became another program.
    pub to_exec: u64,
    /// Forks whose child exited before that.
    pub to_exit: u64,
    /// vforks, however they ended.
    pub vforks: u64,
    /// Anonymous pages that the parents copied meanwhile, bytes.
    pub parent_copied_bytes: Option<u64>,
    /// Anonymous pages that the children copied until the end, bytes.
    pub child_copied_bytes: Option<u64>,
}

impl FoldedForks {
    /// All of them.
    pub fn count(&self) -> u64 {
        self.to_exec + self.to_exit + self.vforks
    }
}

impl Report {
    /// Processes that were traced.
    pub fn process_count(&self) -> u64 {
        self.processes.len() as u64 + self.folded_processes()
    }

    /// Those that are only in the sums by name.
    pub fn folded_processes(&self) -> u64 {
        self.folded.iter().map(|folded| folded.processes).sum()
    }

    /// Forks and vforks among those that were traced.
    pub fn fork_count(&self) -> u64 {
        self.forks.len() as u64 + self.folded.iter().map(|folded| folded.forks.count()).sum::<u64>()
    }

    /// Counts of all processes by kind; what is not known of one is not known of all.
    pub fn faults(&self) -> Faults {
        let own = self.processes.iter().map(|process| &process.faults);
        Faults::sum(own.chain(self.folded.iter().map(|folded| &folded.faults)))
    }

    /// The same for a count that is told of processes, and of those of one name.
    pub fn sum(
        &self,
        of_process: impl Fn(&Process) -> Option<u64>,
        of_folded: impl Fn(&Folded) -> Option<u64>,
    ) -> Option<u64> {
        self.processes.iter().map(of_process).chain(self.folded.iter().map(of_folded)).sum()
    }

    /// The sum of [`Process::copied_bytes`].
    pub fn copied_bytes(&self) -> Option<u64> {
        self.sum(|process| process.copied_bytes, |folded| folded.copied_bytes)
    }
}
