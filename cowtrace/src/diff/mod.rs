//! Two reports side by side: what became more, and what less. No I/O.

mod compare;
mod figures;
#[cfg(test)]
mod tests;
mod warnings;

pub use compare::{diff, process_name};
pub use figures::{Change, Figures, Rate};

use serde::Serialize;

use crate::model::{BackendFacts, KernelFacts, Lost, Report};

/// Version of the JSON.
pub const DIFF_SCHEMA: &str = "cowtrace.diff/1";

/// What differs between two reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// [`DIFF_SCHEMA`].
    pub schema: &'static str,
    /// The first report.
    pub a: Side,
    /// The second one.
    pub b: Side,
    /// Why the two may not be comparable, a sentence each.
    pub warnings: Vec<String>,
    /// Whether all figures are equal.
    pub same: bool,
    /// Sums over all processes.
    pub totals: Figures,
    /// `totals.copy` per second of the session.
    pub copies_per_second: Rate,
    /// By process name, by descending difference.
    pub processes: Vec<Row>,
    /// By name of the mapping, by descending difference; empty if a side has no mappings.
    pub regions: Vec<Row>,
    /// By user stack (`comm;function;function`, the outermost first), by descending difference; empty if a side has no stacks.
    pub stacks: Vec<Row>,
}

/// One of the two reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Where it was read from.
    pub file: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Length of the session, ns.
    pub duration_ns: u64,
    /// Exit status of the command.
    pub exit_status: Option<i32>,
    /// False if the recorder ended early.
    pub complete: bool,
    /// The kernel that ran.
    pub kernel: KernelFacts,
    /// What counted.
    pub backend: BackendFacts,
    /// What was lost.
    pub lost: Lost,
}

impl Side {
    fn new(file: &str, report: &Report) -> Side {
        Side {
            file: file.to_owned(),
            command: report.command.clone(),
            duration_ns: report.duration_ns,
            exit_status: report.exit_status,
            complete: report.complete,
            kernel: report.kernel.clone(),
            backend: report.backend.clone(),
            lost: report.lost,
        }
    }
}

/// All that has one name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Of the process, the mapping or the stack.
    pub name: String,
    /// So many processes of that name, mappings in which something was counted, or processes with that stack were there.
    pub count: Change,
    /// What they counted.
    #[serde(flatten)]
    pub figures: Figures,
}
