//! What the lab found, as the contract's JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::claims::{Claim, Verdict};
use crate::{ledger, proc::Vma};

/// Name and version of the JSON form.
pub const SCHEMA: &str = "cowtrace.lab/1";

/// All experiments that were run.
#[derive(Clone, Debug, Serialize)]
pub struct LabReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The running kernel, as in a trace report.
    pub kernel: Value,
    /// The tracer's backend, as in a trace report.
    pub backend: Value,
    /// In the order they were run.
    pub experiments: Vec<ExperimentReport>,
}

/// One experiment.
#[derive(Clone, Debug, Serialize)]
pub struct ExperimentReport {
    /// Short name.
    pub id: &'static str,
    /// File name of the source whose claims it checks.
    pub source: &'static str,
    /// What it is about, in a line.
    pub title: &'static str,
    /// What is done.
    #[serde(skip)]
    pub about: &'static str,
    /// What to expect.
    #[serde(skip)]
    pub expect: &'static str,
    /// What it teaches.
    #[serde(skip)]
    pub lesson: &'static str,
    /// The claims and their verdicts.
    pub claims: Vec<Claim>,
    /// Why `Private_Dirty` moved, from each checkpoint to the next.
    pub ledger: Vec<LedgerRow>,
    /// The mapping that [`CheckpointReport`]s show.
    pub focus: &'static str,
    /// What smaps and the tracer showed at each checkpoint.
    pub checkpoints: Vec<CheckpointReport>,
    /// The tracer's report.
    pub report: Value,
}

/// One mapping of one process from one checkpoint to the next.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerRow {
    /// Names of the two checkpoints.
    pub between: [String; 2],
    /// The explanation.
    #[serde(flatten)]
    pub row: ledger::Row,
}

/// A moment at which all processes stood still.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointReport {
    /// What had been done by then.
    pub name: String,
    /// Who lived.
    pub processes: Vec<ProcessReport>,
}

/// A process at a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessReport {
    /// Process id.
    pub pid: u32,
    /// `parent`, `child`.
    pub role: &'static str,
    /// Number of its mappings.
    pub mappings: usize,
    /// The mapping that the experiment is about; `null` if there is none.
    pub smaps: Option<Vma>,
    /// Faults in this mapping since the checkpoint before, by kind; only those that occurred.
    pub faults: BTreeMap<&'static str, u64>,
}

impl ExperimentReport {
    /// Claims with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.claims.iter().filter(|claim| claim.verdict == verdict).count()
    }

    /// Pages that the ledger could not explain, regardless of sign.
    pub fn residual_pages(&self) -> u64 {
        self.ledger.iter().map(|row| row.row.residual_pages.unsigned_abs()).sum()
    }
}

impl LabReport {
    /// Whether every claim came out as it should and every page is explained: the lab's exit status.
    pub fn as_it_should(&self) -> bool {
        self.experiments.iter().all(|experiment| {
            experiment.residual_pages() == 0 && experiment.claims.iter().all(Claim::as_it_should)
        })
    }
}
