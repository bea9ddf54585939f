//! Whether the kernel hides its memory from programs.

use std::io;

use serde::Serialize;

use super::finding::{Finding, State};
use crate::kernel::{LOCKDOWN_FILE, Lockdown};

/// Lockdown as the kernel tells it, and as it shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockdownFact {
    /// What the kernel's file says; `None` if it says nothing.
    pub mode: Option<Lockdown>,
    /// Why it says nothing.
    pub answer: Option<String>,
    /// Whether a program that reads kernel memory loads; `None` if that could not be tried.
    pub reads_kernel_memory: Option<bool>,
}

impl LockdownFact {
    pub(super) fn gather(reads_kernel_memory: Option<bool>) -> LockdownFact {
        Self::from_parts(Lockdown::of_running_kernel(), reads_kernel_memory)
    }

    pub(super) fn from_parts(
        told: io::Result<Option<Lockdown>>,
        reads_kernel_memory: Option<bool>,
    ) -> LockdownFact {
        let (mode, answer) = match told {
            Ok(Some(mode)) => (Some(mode), None),
            Ok(None) => (None, Some("not understood".to_owned())),
            Err(error) => (None, Some(error.to_string())),
        };
        LockdownFact { mode, answer, reads_kernel_memory }
    }

    pub(super) fn finding(&self) -> Finding {
        let told = match (self.mode, &self.answer) {
            (Some(mode), _) => mode.name().to_owned(),
            (None, Some(answer)) => format!("{LOCKDOWN_FILE}: {answer}"),
            (None, None) => format!("{LOCKDOWN_FILE} says nothing"),
        };
        let subject = "lockdown";
        let hides = self.mode == Some(Lockdown::Confidentiality) || self.reads_kernel_memory == Some(false);
        match (hides, self.mode, self.reads_kernel_memory) {
            (true, ..) => {
                let found = match self.reads_kernel_memory {
                    Some(false) => format!("{told}; programs may not read kernel memory"),
                    _ => told,
                };
                Finding::new(subject, State::Missing, found).but(
                    "nothing can be traced: cowtrace's programs would have to read the kernel's memory",
                    "boot without lockdown=confidentiality; integrity, as with Secure Boot, does no harm",
                )
            }
            (_, Some(_), _) => Finding::new(subject, State::Good, told),
            (_, None, Some(true)) => {
                Finding::new(subject, State::Good, "programs may read kernel memory; no file tells the mode")
            }
            (_, None, _) => Finding::new(subject, State::Unknown, told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(told: io::Result<Option<Lockdown>>, reads: Option<bool>) -> State {
        LockdownFact::from_parts(told, reads).finding().state
    }

    #[test]
    fn either_sign_of_confidentiality_is_enough() {
        let absent = || io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(state(Ok(Some(Lockdown::None)), Some(true)), State::Good);
        assert_eq!(state(Ok(Some(Lockdown::Integrity)), Some(true)), State::Good);
        assert_eq!(state(Ok(Some(Lockdown::Confidentiality)), None), State::Missing);
        assert_eq!(state(Ok(Some(Lockdown::Confidentiality)), Some(true)), State::Missing);
        assert_eq!(state(Err(absent()), Some(false)), State::Missing);
        assert_eq!(state(Err(absent()), Some(true)), State::Good);
        assert_eq!(state(Err(absent()), None), State::Unknown);
    }
}
