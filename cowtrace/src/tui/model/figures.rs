//! The figures of a process that grow, and how fast they do.

use std::ops::{Add, AddAssign};

use crate::model::Process;

/// What has been counted; `None` is a figure that the backend cannot know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Pages copied because of a fork; where kinds cannot be told apart, of all kinds of `wpcopy`.
    pub copies: Option<u64>,
    /// Bytes of content copied, of private file pages too.
    pub bytes: Option<u64>,
    /// Private file pages copied.
    pub file: Option<u64>,
}

impl Figures {
    /// Nothing counted yet.
    pub const NONE: Figures = Figures { copies: Some(0), bytes: Some(0), file: Some(0) };

    /// A process's, since it is traced.
    pub fn of(process: &Process) -> Figures {
        Figures {
            copies: process.faults.copy.or(process.wpcopy),
            bytes: process.copied_bytes,
            file: process.faults.file,
        }
    }

    /// What was added since.
    #[must_use]
    pub fn since(&self, before: &Figures) -> Figures {
        let grown = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before.unwrap_or(0)));
        Figures {
            copies: grown(self.copies, before.copies),
            bytes: grown(self.bytes, before.bytes),
            file: grown(self.file, before.file),
        }
    }

    /// Per second, for what was added in so many ns.
    pub fn per(&self, ns: u64) -> Rates {
        let seconds = ns as f64 / 1e9;
        let rate = |value: Option<u64>| value.filter(|_| ns > 0).map(|value| value as f64 / seconds);
        Rates { copies: rate(self.copies), bytes: rate(self.bytes), file: rate(self.file) }
    }

    /// Whether anything was counted.
    pub fn is_any(&self) -> bool {
        [self.copies, self.bytes, self.file].iter().any(|value| value.unwrap_or(0) > 0)
    }
}

impl Add for Figures {
    type Output = Figures;

    /// Unknown where either is.
    fn add(self, other: Figures) -> Figures {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        Figures {
            copies: sum(self.copies, other.copies),
            bytes: sum(self.bytes, other.bytes),
            file: sum(self.file, other.file),
        }
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        *self = *self + other;
    }
}

/// Per second; `None` while it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Pages copied because of a fork.
    pub copies: Option<f64>,
    /// Bytes of content copied.
    pub bytes: Option<f64>,
    /// Private file pages copied.
    pub file: Option<f64>,
}
