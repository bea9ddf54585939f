//! One frame: all that can be seen at a moment.

use std::rc::Rc;

use super::{Figures, Rates};
use crate::model::{BackendFacts, Fork, Lost, Process};

/// Tells a process from all others of a session: ids are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Its creation, ns since the start of the session.
    pub start_ns: u64,
}

impl Identity {
    /// Of a process.
    pub fn of(process: &Process) -> Identity {
        Identity { pid: process.pid, start_ns: process.start_ns }
    }
}

/// A process in a frame.
#[derive(Clone, Debug)]
pub struct Row {
    /// All that is known of it.
    pub process: Rc<Process>,
    /// Its figures since it is traced.
    pub figures: Figures,
    /// Over the time that the frame covers.
    pub rates: Rates,
}

impl Row {
    /// Tells it from all others.
    pub fn identity(&self) -> Identity {
        Identity::of(&self.process)
    }
}

/// A fork in a frame: in flight, or one that ended a moment ago and was not cheap.
#[derive(Clone, Debug)]
pub struct ForkRow {
    /// All that is known of it.
    pub fork: Rc<Fork>,
    /// The child's command name.
    pub comm: String,
}

/// Sums over all processes, those included that have ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// Since the session began.
    pub figures: Figures,
    /// Over the time that the frame covers.
    pub rates: Rates,
    /// Processes that live.
    pub living: usize,
    /// Processes that ended in that time.
    pub ended: usize,
    /// Forks in flight.
    pub in_flight: usize,
}

/// All that can be seen at a moment.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When, ns since the start of the session.
    pub at_ns: u64,
    /// What counts.
    pub backend: BackendFacts,
    /// The kernel's release.
    pub release: String,
    /// Bytes per page.
    pub page_size: u64,
    /// Processes, in no order.
    pub rows: Vec<Row>,
    /// Forks: in flight first, the dearest first.
    pub forks: Vec<ForkRow>,
    /// Whether forks have forecasts.
    pub foreseen: bool,
    /// Sums.
    pub totals: Totals,
    /// What was lost since the session began.
    pub lost: Lost,
}
