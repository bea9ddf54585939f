//! What a session is asked for.

use std::time::Duration;

use crate::probe::{BackendChoice, MappingError, MappingFollower, ProbeOptions};

/// What to trace and how.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Attribute faults to mappings.
    pub regions: bool,
    /// Count copies by the user stack that made them.
    pub stacks: bool,
    /// Count copies page by page, for so many pages at most; needs [`SessionOptions::regions`].
    pub pages: Option<u64>,
    /// Tell of each fault of these kinds, for [`super::Session::take_events`]: bit n stands for the [`cowtrace_abi::Kind`] n. Faults
    /// are counted by mapping no more.
    pub events: u64,
    /// Measure how long copies take.
    pub latency: bool,
    /// Which hooks.
    pub backend: BackendChoice,
    /// Threads, and processes, that can be traced at the same time.
    pub max_tasks: u32,
    /// Kernel-side diagnostics, in aya-log's levels; 0 is off.
    pub log_level: u8,
    /// Ended processes that are kept one by one: when there are twice as many, those that copied least become sums by name.
    /// `None`: all are kept.
    pub max_ended: Option<usize>,
    /// Keep every page event, for [`super::Session::family_events`].
    pub page_log: bool,
    /// Foresee what forks in flight will have copied.
    pub forecast: Option<Lifetime>,
}

/// [`SessionOptions::max_ended`] of sessions that may last.
pub const DEFAULT_MAX_ENDED: usize = 10_000;

/// How long a fork is expected to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the last one of the same parent that lasted a second or more.
    AsBefore,
    /// So long.
    Known(Duration),
}

impl SessionOptions {
    /// Counts and regions, and nothing else.
    pub fn new(backend: BackendChoice, max_tasks: u32) -> SessionOptions {
        SessionOptions {
            regions: true,
            stacks: false,
            pages: None,
            events: 0,
            latency: false,
            backend,
            max_tasks,
            log_level: 0,
            max_ended: None,
            page_log: false,
            forecast: None,
        }
    }

    /// The mappings of all processes, if they are needed.
    pub(super) fn mappings(&self) -> Result<Option<MappingFollower>, MappingError> {
        self.follows_mappings().then(MappingFollower::open).transpose()
    }

    fn follows_mappings(&self) -> bool {
        self.regions || self.stacks
    }

    pub(super) fn for_probes(&self) -> ProbeOptions {
        ProbeOptions {
            regions: self.regions && self.events == 0,
            stacks: self.stacks,
            pages: self.pages.is_some(),
            events: self.events,
            latency: self.latency,
            backend: self.backend,
            max_tasks: self.max_tasks,
            log_level: self.log_level,
        }
    }
}
