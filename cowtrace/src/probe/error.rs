//! What can go wrong between user space and the kernel, in the user's words.

use std::io;

/// Why tracing cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel's layout is not known.
    #[error(transparent)]
    Layout(#[from] crate::kernel::LayoutError),
    /// No privilege.
    #[error(
        "tracing page faults needs root, or the capabilities CAP_SYS_ADMIN and CAP_SYSLOG (and CAP_SYS_PTRACE for other \
         users' processes), which this process does not have; run it with sudo"
    )]
    NotPrivileged,
    /// Inside a container.
    #[error(
        "this process runs in a PID namespace of its own (a container), where the kernel's process ids are not \
         visible; run cowtrace on the host, or in a container started with the host's PID namespace"
    )]
    PidNamespace,
    /// Capabilities that count only inside of a namespace.
    #[error(
        "this process runs in a user namespace of its own (a rootless container), where its capabilities do not \
         count for tracing; run cowtrace as root on the host"
    )]
    UserNamespace,
    /// Kernel memory may not be read.
    #[error(
        "this kernel is locked down: {answer}; programs may not read its memory, so that nothing could be counted \
         rightly; boot it without lockdown=confidentiality (integrity, as with Secure Boot, does no harm)"
    )]
    LockedDown {
        /// How that is known.
        answer: String,
    },
    /// No program at all can be loaded.
    #[error("cannot load a program of two instructions with bpf(2): {answer}; {advice}")]
    NoBpf {
        /// What the kernel answered.
        answer: io::Error,
        /// Who may have refused, and what to do.
        advice: &'static str,
    },
    /// A backend that was asked for does not work here.
    #[error("the {backend} backend does not work here: {reason}; use --backend auto")]
    Backend {
        /// Its name.
        backend: &'static str,
        /// What was tried, and the kernel's answer.
        reason: String,
    },
    /// This kernel cannot have a backend.
    #[error("{reason}")]
    Unsupported {
        /// The backend's name.
        backend: &'static str,
        /// Why.
        reason: String,
    },
    /// The kernel does not tell where its functions are.
    #[error(
        "/proc/kallsyms does not tell where the kernel handles page faults, without which the tracepoint backend cannot \
         count copies made by system calls; set kernel.kptr_restrict to 1 or 0, and give cowtrace CAP_SYSLOG"
    )]
    HiddenSymbols,
    /// A hook was refused.
    #[error("attaching {tried}: {answer}")]
    Hook {
        /// What was tried.
        tried: String,
        /// What the kernel answered.
        answer: String,
    },
    /// Nothing works.
    #[error("{}; see `cowtrace doctor`", no_backend(
        lacking,
        &refusals.iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>(),
    ))]
    NoBackend {
        /// The capabilities that would help.
        lacking: Vec<&'static str>,
        /// Each backend's name, and why it does not work.
        refusals: Vec<(&'static str, ProbeError)>,
    },
    /// A program was refused.
    #[error("cannot {action} {what}: {answer}; run with -v for the whole of it")]
    Program {
        /// `load` or `attach`.
        action: &'static str,
        /// The program or object.
        what: String,
        /// What the kernel answered.
        answer: String,
    },
    /// A map access failed.
    #[error("cannot {action}: {answer}")]
    Map {
        /// What was tried.
        action: String,
        /// What the kernel answered.
        answer: String,
    },
}

/// Why no backend works: what this process lacks, and what each was refused with.
pub fn no_backend(lacking: &[&str], refusals: &[String]) -> String {
    let refusals = refusals.join("; ");
    if lacking.is_empty() {
        return format!("no backend works on this kernel: {refusals}");
    }
    let lacking = lacking.join(" and ");
    format!(
        "no backend works with the privileges of this process, which lacks {lacking}: run it with sudo, or give it \
         what it lacks; what was tried: {refusals}"
    )
}

impl ProbeError {
    /// The same as the answer to somebody who asked for this backend.
    pub(super) fn of_backend(self, backend: &'static str) -> ProbeError {
        match self {
            ProbeError::Unsupported { .. } | ProbeError::Hook { .. } | ProbeError::Program { .. } => {
                ProbeError::Backend { backend, reason: self.to_string() }
            }
            other => other,
        }
    }

    /// The innermost answer of an error chain, which is the kernel's own, preceded by nothing of ours.
    pub(super) fn kernels_answer(error: &(dyn std::error::Error + 'static)) -> String {
        let mut cause = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.to_string();
        }
        // A verifier log may follow; the first line says what happened.
        cause.to_string().lines().next().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Capabilities, Capability, to_blame};

    #[test]
    fn privileges_are_blamed_where_they_are_what_is_missing() {
        let bit = |capability: Capability| 1 << capability as u8;
        let few = Capabilities(bit(Capability::Bpf) | bit(Capability::Perfmon));
        let some = Capabilities(few.0 | bit(Capability::SysAdmin));
        let all = Capabilities(some.0 | bit(Capability::Syslog));
        assert_eq!(to_blame(true, Some(few)), ["CAP_SYS_ADMIN", "CAP_SYSLOG"]);
        assert_eq!(to_blame(true, Some(some)), ["CAP_SYSLOG"]);
        for (hidden, set) in [(true, Some(all)), (true, None), (false, Some(few))] {
            assert!(to_blame(hidden, set).is_empty());
        }
        let error = |lacking| ProbeError::NoBackend {
            lacking,
            refusals: vec![("kprobe", ProbeError::HiddenSymbols)],
        };
        assert!(error(Vec::new()).to_string().starts_with("no backend works on this kernel: kprobe: /proc"));
        let message = error(to_blame(true, Some(few))).to_string();
        assert!(message.contains("lacks CAP_SYS_ADMIN and CAP_SYSLOG: run it with sudo"), "{message}");
        assert!(message.contains("/proc/kallsyms") && !message.contains("this kernel:"), "{message}");
    }
}
