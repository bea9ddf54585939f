//! What a verification has found, as its JSON contract (`cowtrace.verify/1`) has it.

use serde::Serialize;

use crate::{
    ledger,
    model::{BackendFacts, KernelFacts, Lost, Report},
};

/// Version of the JSON.
pub const VERIFY_SCHEMA: &str = "cowtrace.verify/1";

/// Everything that was found out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyReport {
    /// [`VERIFY_SCHEMA`].
    pub schema: &'static str,
    /// The kernel that ran.
    pub kernel: KernelFacts,
    /// What counted.
    pub backend: BackendFacts,
    /// What the tracer lost.
    pub lost: Lost,
    /// What the counts were held against.
    pub oracles: Vec<Oracle>,
    /// Every traced process in the order of creation, then those that the kernel knows of and the tracer does not.
    pub processes: Vec<ProcessVerdict>,
    /// All of them together.
    pub totals: Totals,
    /// `null` if it was not asked for, or could not be read.
    pub ledger: Option<LedgerReport>,
    /// What the tracer has counted.
    pub report: Report,
}

/// A count that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Oracle {
    /// Its name.
    pub name: OracleName,
    /// Whether it is there.
    pub available: bool,
    /// Why not, if it is not.
    pub why_not: Option<String>,
    /// What it tells, and how it compares.
    pub covers: &'static str,
    /// Records of it that were lost.
    pub lost_records: u64,
    /// What came out; `null` if it is not there, or was not asked for.
    pub finding: Option<Finding>,
    /// The figures, in a sentence.
    pub explanation: Option<String>,
}

/// Which oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OracleName {
    /// taskstats' count of copies.
    WpcopyCount,
    /// taskstats' count of solved page faults.
    MinorFaults,
    /// vmstat's count of copies of merged pages.
    CowKsm,
    /// smaps and pagemap, explained by the ledger.
    Smaps,
}

impl OracleName {
    /// As in the JSON.
    pub fn text(self) -> &'static str {
        match self {
            OracleName::WpcopyCount => "wpcopy_count",
            OracleName::MinorFaults => "minor_faults",
            OracleName::CowKsm => "cow_ksm",
            OracleName::Smaps => "smaps",
        }
    }
}

/// Whether an oracle agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// It does.
    Holds,
    /// It does not.
    Differs,
    /// It lost what it was to be asked about.
    Incomplete,
}

/// One process, held against the kernel's records of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessVerdict {
    /// Process id; may occur twice when it was reused.
    pub pid: u32,
    /// Last command name.
    pub comm: String,
    /// The tracer's count of copies; `null` if it cannot know.
    pub wpcopy: Option<u64>,
    /// The kernel's.
    pub kernel_wpcopy: Option<u64>,
    /// Write faults that the tracer counted and the kernel must have solved; `null` if it was not traced.
    pub faults: Option<u64>,
    /// Page faults that the kernel solved without I/O: with the next, at least [`Self::faults`].
    pub minor_faults: Option<u64>,
    /// Page faults that the kernel solved with I/O.
    pub major_faults: Option<u64>,
    /// What came out.
    pub verdict: Verdict,
    /// Why it is not exact.
    pub explanation: Option<String>,
}

/// What came out for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both count the same, and the faults are within the kernel's.
    Exact,
    /// They do not, or are not.
    Differs,
    /// It runs: the kernel tells its figures when it ends.
    Running,
    /// It has ended, and the kernel's record of it is missing.
    NoRecord,
    /// The kernel knows it as a child of traced processes, the tracer does not.
    NotTraced,
    /// No count of copies to compare with; the faults are within the kernel's.
    Bounded,
}

/// All processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Rows.
    pub processes: u64,
    /// By verdict.
    pub exact: u64,
    /// By verdict.
    pub differ: u64,
    /// By verdict.
    pub running: u64,
    /// By verdict.
    pub no_record: u64,
    /// By verdict.
    pub not_traced: u64,
    /// By verdict.
    pub bounded: u64,
    /// The tracer's copies, of the processes that could be compared.
    pub wpcopy: u64,
    /// The kernel's, of the same.
    pub kernel_wpcopy: u64,
    /// What came out for the whole.
    pub verdict: Outcome,
}

/// What came out for the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every process that has ended is exact, and no oracle differs.
    Exact,
    /// A count does not hold.
    Differs,
    /// Nothing differs, but not all could be compared.
    #[default]
    Incomplete,
    /// Nothing differs, but this kernel has no count of copies to compare with.
    Bounded,
}

impl Outcome {
    /// Whether no count is known to be wrong, and none that could be compared is missing.
    pub fn holds(self) -> bool {
        matches!(self, Outcome::Exact | Outcome::Bounded)
    }
}

/// Private_Dirty between two moments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// The moments, ms since the start of the command.
    pub at_ms: [u64; 2],
    /// How long processes were stopped for each, ms.
    pub stopped_ms: [u64; 2],
    /// Processes that became another program in between. The kernel sets up the first pages of a program before it tells
    /// of it, so that these stay unexplained; they say nothing of the counts.
    pub new_programs: Vec<u32>,
    /// One row for each mapping that has, had or moved any private dirty page.
    pub rows: Vec<ledger::Row>,
}

impl LedgerReport {
    /// Pages that no event explains, and one should.
    pub fn residual_pages(&self) -> u64 {
        let should = self.rows.iter().filter(|row| !self.new_programs.contains(&row.pid));
        should.map(|row| row.residual_pages.unsigned_abs()).sum()
    }
}
