//! What is checked before anything is loaded, so that a refusal has a plain reason and nothing is counted wrongly.

use std::io;

use aya::{
    programs::{ProgramError, ProgramType},
    sys::{BpfHelper, is_helper_supported, is_program_supported},
};

use super::{Namespace, Privileges, ProbeError};
use crate::kernel::{LOCKDOWN_FILE, Lockdown};

/// How the kernel answers two tiny programs, which are loaded and thrown away.
#[derive(Debug)]
pub struct BpfAnswer {
    /// Its answer to the first, which does nothing; `None`: it took it.
    pub refused: Option<io::Error>,
    /// Whether the second, which reads kernel memory, would do; `None` if it is not known.
    pub reads_kernel_memory: Option<bool>,
}

impl BpfAnswer {
    /// Tries them.
    pub fn of_running_kernel() -> BpfAnswer {
        let kind = ProgramType::RawTracePoint;
        let refused = match is_program_supported(kind) {
            Ok(true) => None,
            Ok(false) => Some(io::Error::from_raw_os_error(libc::EINVAL)),
            Err(error) => Some(answer_in(error)),
        };
        let reads = || is_helper_supported(kind, BpfHelper::BPF_FUNC_probe_read_kernel).ok();
        let reads_kernel_memory = if refused.is_none() { reads() } else { None };
        BpfAnswer { refused, reads_kernel_memory }
    }
}

fn answer_in(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(refused) => refused.io_error,
        other => io::Error::other(other),
    }
}

/// Checks what every backend needs.
///
/// # Errors
/// The first thing that is missing.
pub fn preflight() -> Result<(), ProbeError> {
    let privileges = Privileges::of_this_process();
    check_privileges(&privileges)?;
    let lockdown = Lockdown::of_running_kernel().ok().flatten();
    check_kernel(lockdown, BpfAnswer::of_running_kernel(), privileges)
}

/// Where /proc does not tell, the kernel's own refusal will.
fn check_privileges(privileges: &Privileges) -> Result<(), ProbeError> {
    if privileges.capabilities.is_some_and(|capabilities| !capabilities.allow_tracing()) {
        return Err(ProbeError::NotPrivileged);
    }
    if privileges.pid_namespace == Some(Namespace::Own) {
        return Err(ProbeError::PidNamespace);
    }
    if privileges.user_namespace == Some(Namespace::Own) {
        return Err(ProbeError::UserNamespace);
    }
    Ok(())
}

/// The lockdown is asked for by both ways: its file needs securityfs, and old kernels load programs that then read zeros.
fn check_kernel(
    lockdown: Option<Lockdown>,
    bpf: BpfAnswer,
    privileges: Privileges,
) -> Result<(), ProbeError> {
    if lockdown == Some(Lockdown::Confidentiality) {
        return Err(ProbeError::LockedDown { answer: format!("{LOCKDOWN_FILE} says confidentiality") });
    }
    if let Some(answer) = bpf.refused {
        let advice = advice_on_refusal(&answer, privileges.seccomp_filter == Some(true));
        return Err(ProbeError::NoBpf { answer, advice });
    }
    if bpf.reads_kernel_memory == Some(false) {
        return Err(ProbeError::LockedDown {
            answer: "the helper bpf_probe_read_kernel is refused".to_owned(),
        });
    }
    Ok(())
}

/// Who refuses bpf(2), and what can be done.
pub fn advice_on_refusal(answer: &io::Error, seccomp_filter: bool) -> &'static str {
    match answer.raw_os_error() {
        _ if seccomp_filter => {
            "a seccomp filter is in force on this process (a sandbox's or container's): run cowtrace outside of it, or \
             let it allow the system call bpf"
        }
        Some(libc::ENOSYS) => {
            "this kernel was built without CONFIG_BPF_SYSCALL: cowtrace needs one that has it"
        }
        Some(libc::EPERM) => {
            "this process has the capabilities, so that something else refuses: a security module (its log tells; \
             allow bpf there), or before Linux 5.11 the limit on locked memory (ulimit -l unlimited)"
        }
        _ => "`cowtrace doctor` shows what else this kernel lacks",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Capabilities;

    const ALLOWED: Privileges = Privileges {
        capabilities: Some(Capabilities(u64::MAX)),
        seccomp_filter: Some(false),
        pid_namespace: Some(Namespace::Host),
        user_namespace: Some(Namespace::Host),
    };

    fn message(outcome: Result<(), ProbeError>) -> String {
        outcome.unwrap_err().to_string()
    }

    fn bpf(errno: Option<i32>, reads_kernel_memory: Option<bool>) -> BpfAnswer {
        BpfAnswer { refused: errno.map(io::Error::from_raw_os_error), reads_kernel_memory }
    }

    #[test]
    fn privileges_are_checked_as_far_as_they_are_known() {
        assert!(check_privileges(&ALLOWED).is_ok());
        assert!(check_privileges(&Privileges::from_parts("", None, None)).is_ok());
        let none = Privileges { capabilities: Some(Capabilities(0)), ..ALLOWED };
        assert!(message(check_privileges(&none)).contains("needs root"));
        let container = Privileges { pid_namespace: Some(Namespace::Own), ..ALLOWED };
        assert!(message(check_privileges(&container)).contains("PID namespace"));
        let mapped = Privileges { user_namespace: Some(Namespace::Own), ..ALLOWED };
        assert!(message(check_privileges(&mapped)).contains("user namespace"));
    }

    #[test]
    fn a_kernel_that_hides_its_memory_is_refused_whichever_way_it_shows() {
        let works = || bpf(None, Some(true));
        assert!(check_kernel(None, works(), ALLOWED).is_ok());
        assert!(check_kernel(Some(Lockdown::Integrity), works(), ALLOWED).is_ok(), "as under Secure Boot");
        let told = message(check_kernel(Some(Lockdown::Confidentiality), works(), ALLOWED));
        assert!(told.contains(LOCKDOWN_FILE), "{told}");
        let found_out = message(check_kernel(None, bpf(None, Some(false)), ALLOWED));
        assert!(found_out.contains("bpf_probe_read_kernel"), "{found_out}");
        assert!(check_kernel(None, bpf(None, None), ALLOWED).is_ok(), "loading will tell");
    }

    #[test]
    fn a_refusal_of_bpf_names_who_may_have_refused() {
        let refusal = |errno: i32, filter: bool| {
            let privileges = Privileges { seccomp_filter: Some(filter), ..ALLOWED };
            message(check_kernel(None, bpf(Some(errno), None), privileges))
        };
        for (message, word) in [
            (refusal(libc::EPERM, true), "seccomp"),
            (refusal(libc::EPERM, false), "security module"),
            (refusal(libc::ENOSYS, false), "CONFIG_BPF_SYSCALL"),
        ] {
            assert!(message.contains("bpf(2)") && message.contains(word), "{message}");
        }
    }
}
