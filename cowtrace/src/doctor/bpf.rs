//! Whether the kernel answers bpf(2) at all.

use serde::Serialize;

use super::finding::{Finding, State};
use crate::probe::{BpfAnswer, Privileges, advice_on_refusal};

/// The answer to a program of two instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BpfFact {
    /// Why it was refused; `None`: it was not.
    pub answer: Option<String>,
    /// A seccomp filter decides over the system calls of this process.
    pub seccomp_filter: Option<bool>,
    #[serde(skip)]
    advice: &'static str,
}

impl BpfFact {
    pub(super) fn from_parts(bpf: &BpfAnswer, privileges: &Privileges) -> BpfFact {
        let may_trace = privileges.capabilities.is_none_or(|capabilities| capabilities.allow_tracing());
        let advice = match &bpf.refused {
            Some(_) if !may_trace => "run as root",
            Some(answer) => advice_on_refusal(answer, privileges.seccomp_filter == Some(true)),
            None => "",
        };
        let answer = bpf.refused.as_ref().map(ToString::to_string);
        BpfFact { answer, seccomp_filter: privileges.seccomp_filter, advice }
    }

    pub(super) fn finding(&self) -> Finding {
        let filter = if self.seccomp_filter == Some(true) { "; a seccomp filter is in force" } else { "" };
        match &self.answer {
            None => Finding::new("bpf(2)", State::Good, format!("loads programs{filter}")),
            Some(answer) => Finding::new("bpf(2)", State::Missing, format!("{answer}{filter}"))
                .but("nothing can be traced: the kernel takes no program", self.advice),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_filter_is_named_and_privileges_come_first() {
        let refused = || BpfAnswer {
            refused: Some(io::Error::from_raw_os_error(libc::EPERM)),
            reads_kernel_memory: None,
        };
        let fact = |bpf: &BpfAnswer, status: &str| {
            BpfFact::from_parts(bpf, &Privileges::from_parts(status, None, None)).finding()
        };
        let filtered = fact(&refused(), "CapEff:\tffffffffff\nSeccomp:\t2\n");
        assert!(filtered.found.contains("seccomp") && filtered.advice.unwrap().contains("seccomp"));
        let nobody = fact(&refused(), "CapEff:\t0000000000\nSeccomp:\t0\n");
        assert_eq!((nobody.state, nobody.advice.as_deref()), (State::Missing, Some("run as root")));
        let answered = BpfAnswer { refused: None, reads_kernel_memory: Some(true) };
        assert_eq!(fact(&answered, "CapEff:\tffffffffff\nSeccomp:\t0\n").state, State::Good);
    }
}
