//! Whether perf tells which mappings processes have.

use serde::Serialize;

use super::finding::{Finding, State};
use crate::probe::{MappingError, MappingFollower};

/// The kernel's answer to following mappings on all processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MappingsFact {
    /// Why it does not work; `None`: it does.
    pub answer: Option<String>,
}

impl MappingsFact {
    pub(super) fn gather() -> MappingsFact {
        Self::from_outcome(MappingFollower::open().map(drop))
    }

    pub(super) fn from_outcome(outcome: Result<(), MappingError>) -> MappingsFact {
        MappingsFact { answer: outcome.err().map(|error| error.to_string()) }
    }

    pub(super) fn finding(&self) -> Finding {
        match &self.answer {
            None => Finding::new("mappings", State::Good, "perf records them on all CPUs"),
            Some(answer) => Finding::new("mappings", State::Limited, answer.clone()).but(
                "faults cannot be attributed to mappings, and the lab does not run",
                "run as root, or trace with --no-regions",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_refusal_costs_the_regions() {
        let refused = MappingError::Open { cpu: 0, source: io::Error::from_raw_os_error(libc::EACCES) };
        let finding = MappingsFact::from_outcome(Err(refused)).finding();
        assert_eq!(finding.state, State::Limited);
        assert!(
            finding.found.contains("Permission denied") && finding.advice.unwrap().contains("--no-regions")
        );
        assert_eq!(MappingsFact::from_outcome(Ok(())).finding().state, State::Good);
    }
}
