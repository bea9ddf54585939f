//! Whether the addresses of kernel functions can be read.

use std::io;

use serde::Serialize;

use super::finding::{Finding, State};
use crate::kernel::Symbols;

/// The kernel's symbols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KallsymsFact {
    /// Why they cannot be read; `None`: they can.
    pub answer: Option<String>,
    /// Addresses are shown, not zeros.
    pub addresses: bool,
}

impl KallsymsFact {
    pub(super) fn from_parts(symbols: &io::Result<Symbols>) -> KallsymsFact {
        match symbols {
            Ok(symbols) => KallsymsFact { answer: None, addresses: symbols.addresses },
            Err(error) => KallsymsFact { answer: Some(error.to_string()), addresses: false },
        }
    }

    pub(super) fn finding(&self, kptr_restrict: Option<i64>) -> Finding {
        let subject = "symbols";
        let found = match &self.answer {
            None if self.addresses => {
                return Finding::new(subject, State::Good, "/proc/kallsyms shows addresses");
            }
            None => "/proc/kallsyms shows names, but no addresses".to_owned(),
            Some(answer) => format!("/proc/kallsyms: {answer}"),
        };
        let advice = match (&self.answer, kptr_restrict) {
            (None, Some(2..)) => "sysctl kernel.kptr_restrict=1",
            (None, _) => "run as root or with CAP_SYSLOG",
            (Some(_), _) => "use a kernel built with CONFIG_KALLSYMS=y, and mount /proc",
        };
        Finding::new(subject, State::Limited, found).but(
            "the tracepoint backend does not work: it could not tell copies that the kernel makes inside system calls",
            advice,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_addresses_and_what_to_do() {
        let fact =
            |addresses: bool| KallsymsFact::from_parts(&Ok(Symbols { addresses, functions: Vec::new() }));
        assert_eq!(fact(true).finding(Some(0)).state, State::Good);
        let hidden = fact(false).finding(Some(2));
        assert_eq!(
            (hidden.state, hidden.advice.as_deref()),
            (State::Limited, Some("sysctl kernel.kptr_restrict=1"))
        );
        assert!(fact(false).finding(Some(1)).advice.unwrap().contains("CAP_SYSLOG"));
        let absent = KallsymsFact::from_parts(&Err(io::Error::from_raw_os_error(libc::ENOENT)));
        assert!(absent.finding(None).found.contains("No such file"));
    }
}
