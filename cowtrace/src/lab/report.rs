//! What the lab found, as the contract's JSON.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::claims::{Claim, Verdict};
use crate::{
    ledger,
    proc::{Status, Vma},
};

/// Name and version of the JSON form.
pub const SCHEMA: &str = "cowtrace.lab/1";

/// Mappings with more pages than this have no [`PageMap`].
pub const PAGE_MAP_PAGES: usize = 1024;

/// All experiments that were run.
#[derive(Clone, Debug, Serialize)]
pub struct LabReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The running kernel, as in a trace report.
    pub kernel: Value,
    /// The tracer's backend, as in a trace report.
    pub backend: Value,
    /// The signal that ended the lab before its end, if one did; the experiments before it are whole.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name")]
    pub interrupted_by: Option<Signal>,
    /// How many experiments were to be run.
    #[serde(skip)]
    pub selected: usize,
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
    /// Wall-clock time that it took, ms.
    pub duration_ms: u64,
    /// Size of its memory, bytes, if that can be chosen.
    pub size_bytes: Option<u64>,
    /// The claims and their verdicts.
    pub claims: Vec<Claim>,
    /// Figures that are no claims.
    pub tables: Vec<Figures>,
    /// What is better seen than read.
    pub curves: Vec<Curve>,
    /// Why `Private_Dirty` moved, from each checkpoint to the next.
    pub ledger: Vec<LedgerRow>,
    /// The mapping that [`CheckpointReport`]s show.
    pub focus: &'static str,
    /// What smaps and the tracer showed at each checkpoint.
    pub checkpoints: Vec<CheckpointReport>,
    /// The tracer's report.
    pub report: Value,
}

/// A table of measured figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// What it shows, in a line.
    pub title: String,
    /// Headers, units included; the first column names the row.
    pub columns: Vec<String>,
    /// As many cells as columns.
    pub rows: Vec<Vec<String>>,
}

/// Curves over one pair of axes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// What it shows, in a line.
    pub title: String,
    /// Horizontal.
    pub x: Axis,
    /// Vertical.
    pub y: Axis,
    /// At least one.
    pub series: Vec<Series>,
}

/// An axis; it begins at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// What is on it.
    pub label: &'static str,
    /// In what unit.
    pub unit: &'static str,
}

/// One curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Whether these are measured points, or what a formula says.
    pub measured: bool,
    /// x and y, by ascending x.
    pub points: Vec<[f64; 2]>,
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
    /// Its sizes and minor faults.
    pub status: Status,
    /// The mapping that the experiment is about; `null` if there is none.
    pub smaps: Option<Vma>,
    /// Faults in this mapping since the checkpoint before, by kind; only those that occurred.
    pub faults: BTreeMap<&'static str, u64>,
    /// Its pages one by one, if there are no more than [`PAGE_MAP_PAGES`].
    pub pages: Option<PageMap>,
}

/// The pages of a mapping, one letter each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PageMap {
    /// Anonymous pages in memory: `p` mapped by this process alone, `s` shared; `.` none.
    pub state: String,
    /// The last fault since the checkpoint before: first letter of its kind (`a`non, `c`opy, `z`ero, `f`ile,
    /// `k`sm, `r`euse, …); `.` none.
    pub faulted: String,
}

fn name<S: Serializer>(signal: &Option<Signal>, serializer: S) -> Result<S::Ok, S::Error> {
    signal.map(Signal::as_str).serialize(serializer)
}

impl ExperimentReport {
    /// Claims with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.claims.iter().filter(|claim| claim.verdict == verdict).count()
    }

    /// Whether every claim came out as it should and every page is explained.
    pub fn as_it_should(&self) -> bool {
        self.residual_pages() == 0 && self.claims.iter().all(Claim::as_it_should)
    }

    /// Pages that the ledger could not explain, regardless of sign.
    pub fn residual_pages(&self) -> u64 {
        self.ledger.iter().map(|row| row.row.residual_pages.unsigned_abs()).sum()
    }
}

impl LabReport {
    /// Whether every experiment came out as it should: the lab's exit status.
    pub fn as_it_should(&self) -> bool {
        self.experiments.iter().all(ExperimentReport::as_it_should)
    }
}
