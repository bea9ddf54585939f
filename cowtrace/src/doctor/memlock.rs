//! The limit on locked memory, against which kernels before 5.11 count programs and maps.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use serde::Serialize;

use super::finding::{Finding, State};
use crate::{
    kernel::version_of,
    probe::{Capabilities, Capability},
};

/// The first kernel that counts BPF memory elsewhere.
const NOT_COUNTED_SINCE: (u32, u32) = (5, 11);

/// RLIMIT_MEMLOCK of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemlockFact {
    /// The limit; `None`: there is none.
    pub limit_bytes: Option<u64>,
    /// Whether this kernel counts programs and maps against it; `None` if its version is not understood.
    pub counted: Option<bool>,
    /// Whether this process may raise it, which cowtrace does by itself.
    pub may_raise: bool,
}

impl MemlockFact {
    pub(super) fn gather(release: &str, capabilities: Option<Capabilities>) -> MemlockFact {
        let soft = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(RLIM_INFINITY, |(soft, _)| soft);
        Self::from_parts(soft, release, capabilities)
    }

    pub(super) fn from_parts(soft: u64, release: &str, capabilities: Option<Capabilities>) -> MemlockFact {
        MemlockFact {
            limit_bytes: (soft != RLIM_INFINITY).then_some(soft),
            counted: version_of(release).map(|version| version < NOT_COUNTED_SINCE),
            may_raise: capabilities.is_some_and(|set| set.has(Capability::SysResource)),
        }
    }

    pub(super) fn finding(&self) -> Finding {
        let subject = "locked memory";
        let limit =
            self.limit_bytes.map_or_else(|| "no limit".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
        match (self.counted, self.limit_bytes) {
            (Some(false), _) => Finding::new(
                subject,
                State::Unneeded,
                format!("{limit}; since Linux 5.11 programs do not count"),
            ),
            (_, None) => Finding::new(subject, State::Good, limit),
            (_, Some(_)) if self.may_raise => {
                Finding::new(subject, State::Good, format!("{limit}, which cowtrace raises"))
            }
            (counted, Some(_)) => {
                let state = if counted.is_some() { State::Missing } else { State::Unknown };
                Finding::new(subject, state, format!("{limit}, and this process may not raise it")).but(
                    "this kernel counts programs and maps against it, and refuses to load them",
                    "ulimit -l unlimited, or run with CAP_SYS_RESOURCE",
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_matters_to_old_kernels_only() {
        let state = |soft: u64, release: &str, capabilities: u64| {
            MemlockFact::from_parts(soft, release, Some(Capabilities(capabilities))).finding().state
        };
        assert_eq!(state(65_536, "6.12.107+deb13-cloud-amd64", 0), State::Unneeded);
        assert_eq!(state(65_536, "5.10.0-32-cloud-amd64", 0), State::Missing);
        assert_eq!(state(65_536, "5.10.0-32-cloud-amd64", u64::MAX), State::Good);
        assert_eq!(state(RLIM_INFINITY, "5.10.0-32-cloud-amd64", 0), State::Good);
        assert_eq!(state(65_536, "mine", 0), State::Unknown);
    }
}
