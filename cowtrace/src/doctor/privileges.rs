//! What this process may do.

use serde::Serialize;

use super::finding::{Finding, State};
use crate::probe::{Capabilities, Capability, Namespace, Privileges};

/// Capabilities that more than the start of tracing depends on, and what is lost without them.
const USED: [(Capability, &str, &str); 5] = [
    (
        Capability::SysAdmin,
        "CAP_SYS_ADMIN",
        "the frames behind pages, by which some kinds of copies are told apart",
    ),
    (
        Capability::Syslog,
        "CAP_SYSLOG",
        "the addresses of kernel functions, by which copies inside system calls are found",
    ),
    (Capability::SysPtrace, "CAP_SYS_PTRACE", "the mappings of other users' processes"),
    (Capability::NetAdmin, "CAP_NET_ADMIN", "the kernel's own counts, for `cowtrace verify` and the lab"),
    (Capability::IpcLock, "CAP_IPC_LOCK", "enough locked memory for the records of mappings"),
];

/// Capabilities and namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrivilegesFact {
    /// The effective ones as `/proc/self/status` shows them; `None` if it does not.
    pub capabilities: Option<String>,
    /// Whether they allow to load and attach tracing programs.
    pub may_trace: Option<bool>,
    /// Those that cowtrace could use and does not have.
    pub lacks: Vec<&'static str>,
    /// Where process ids come from.
    pub pid_namespace: Option<Namespace>,
    /// Where the capabilities count.
    pub user_namespace: Option<Namespace>,
}

impl PrivilegesFact {
    pub(super) fn from_parts(privileges: &Privileges) -> PrivilegesFact {
        let lacks = |set: Capabilities| {
            USED.iter().filter(|(used, ..)| !set.has(*used)).map(|(_, name, _)| *name).collect()
        };
        PrivilegesFact {
            capabilities: privileges.capabilities.map(|set| format!("{:016x}", set.0)),
            may_trace: privileges.capabilities.map(Capabilities::allow_tracing),
            lacks: privileges.capabilities.map(lacks).unwrap_or_default(),
            pid_namespace: privileges.pid_namespace,
            user_namespace: privileges.user_namespace,
        }
    }

    /// The capabilities as a set.
    pub(super) fn set(&self) -> Option<Capabilities> {
        u64::from_str_radix(self.capabilities.as_ref()?, 16).ok().map(Capabilities)
    }

    pub(super) fn findings(&self) -> [Finding; 2] {
        [self.of_capabilities(), self.of_namespaces()]
    }

    fn of_capabilities(&self) -> Finding {
        let subject = "privileges";
        match self.may_trace {
            None => Finding::new(subject, State::Unknown, "/proc/self/status does not tell the capabilities")
                .but("what is not permitted shows only when it is tried", "mount /proc"),
            Some(false) => {
                Finding::new(subject, State::Missing, "neither CAP_SYS_ADMIN, nor CAP_BPF with CAP_PERFMON")
                    .but("nothing can be traced", "run as root: sudo cowtrace doctor")
            }
            Some(true) if self.lacks.is_empty() => {
                Finding::new(subject, State::Good, "all capabilities that cowtrace uses")
            }
            Some(true) => {
                let lost = USED.iter().filter(|(_, name, _)| self.lacks.contains(name));
                let lost = lost.map(|(_, _, lost)| *lost).collect::<Vec<_>>().join("; ");
                Finding::new(
                    subject,
                    State::Limited,
                    format!("may load programs, but without {}", self.lacks.join(", ")),
                )
                .but(format!("lost are {lost}"), "run as root, or give cowtrace these capabilities as well")
            }
        }
    }

    fn of_namespaces(&self) -> Finding {
        let subject = "namespaces";
        match (self.pid_namespace, self.user_namespace) {
            (Some(Namespace::Own), user) => {
                let both = if user == Some(Namespace::Own) { " and a user namespace" } else { "" };
                Finding::new(
                    subject,
                    State::Missing,
                    format!("a PID namespace{both} of its own (a container)"),
                )
                .but(
                    "nothing can be traced: the kernel's process ids are not visible in here",
                    "run cowtrace on the host, or in a container with the host's PID namespace",
                )
            }
            (_, Some(Namespace::Own)) => {
                Finding::new(subject, State::Missing, "a user namespace of its own (a rootless container)")
                    .but(
                        "nothing can be traced: capabilities do not count for tracing in here",
                        "run cowtrace as root on the host",
                    )
            }
            (None, _) | (_, None) => Finding::new(subject, State::Unknown, "/proc/self/ns does not tell")
                .but("in a container, counts could be missing", "mount /proc"),
            _ => Finding::new(subject, State::Good, "PIDs and users of the host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(status: &str, pid: Option<u64>, user: Option<u64>) -> [Finding; 2] {
        PrivilegesFact::from_parts(&Privileges::from_parts(status, pid, user)).findings()
    }

    #[test]
    fn root_nobody_and_someone_between() {
        let [root, host] = findings("CapEff:\t000001ffffffffff\n", Some(0xefff_fffc), Some(0xefff_fffd));
        assert_eq!((root.state, host.state), (State::Good, State::Good));
        let [nobody, _] = findings("CapEff:\t0000000000000000\n", None, None);
        assert_eq!(nobody.state, State::Missing);
        let [between, _] = findings("CapEff:\t000000c000000000\n", None, None);
        assert_eq!(between.state, State::Limited);
        assert!(between.found.contains("CAP_SYSLOG") && between.costs.unwrap().contains("system calls"));
    }

    #[test]
    fn containers_of_both_sorts() {
        let root = "CapEff:\t000001ffffffffff\n";
        let [_, container] = findings(root, Some(1), Some(0xefff_fffd));
        assert!(container.state == State::Missing && container.found.contains("PID namespace of its own"));
        let [_, rootless] = findings(root, Some(0xefff_fffc), Some(1));
        assert!(rootless.state == State::Missing && rootless.found.contains("user namespace"));
    }
}
