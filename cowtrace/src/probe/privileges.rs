//! What this process may do, as `/proc/self` tells.

use std::{fs, os::unix::fs::MetadataExt as _};

use serde::Serialize;

/// Inodes of the namespaces that the kernel starts with, from `include/linux/proc_ns.h`.
const HOST_PID_NAMESPACE: u64 = 0xefff_fffc;
const HOST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// A capability that something in cowtrace needs; numbers from `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Kernel and process accounting over netlink: taskstats.
    NetAdmin = 12,
    /// Locking more memory than the limit says.
    IpcLock = 14,
    /// Looking into other users' processes.
    SysPtrace = 19,
    /// Nearly everything, in old kernels; today frame numbers in pagemap.
    SysAdmin = 21,
    /// Raising limits.
    SysResource = 24,
    /// Kernel addresses.
    Syslog = 34,
    /// perf events, and tracing programs.
    Perfmon = 38,
    /// bpf(2).
    Bpf = 39,
}

/// Those that all counts need, with their names. The first stands for [`Capability::Bpf`] and [`Capability::Perfmon`] as well.
const FOR_ALL_COUNTS: [(Capability, &str); 2] =
    [(Capability::SysAdmin, "CAP_SYS_ADMIN"), (Capability::Syslog, "CAP_SYSLOG")];

/// A set of capabilities, as in `/proc/PID/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether this one is among them.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }

    /// Names of those that are missing for all counts.
    pub fn lacking(self) -> Vec<&'static str> {
        FOR_ALL_COUNTS.iter().filter(|(needed, _)| !self.has(*needed)).map(|(_, name)| *name).collect()
    }

    /// Whether they allow to load and attach tracing programs.
    pub fn allow_tracing(self) -> bool {
        self.has(Capability::SysAdmin) || (self.has(Capability::Bpf) && self.has(Capability::Perfmon))
    }
}

/// Whose namespace a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// The one that the kernel started with.
    Host,
    /// Another: a container's.
    Own,
}

/// What `/proc/self` tells; `None` where it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The effective capabilities.
    pub capabilities: Option<Capabilities>,
    /// A seccomp filter decides over this process's system calls.
    pub seccomp_filter: Option<bool>,
    /// Where process ids come from.
    pub pid_namespace: Option<Namespace>,
    /// Where the capabilities count.
    pub user_namespace: Option<Namespace>,
}

impl Privileges {
    /// Of this process.
    pub fn of_this_process() -> Privileges {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let inode = |name: &str| fs::metadata(format!("/proc/self/ns/{name}")).map(|found| found.ino()).ok();
        Self::from_parts(&status, inode("pid"), inode("user"))
    }

    /// From the text of `status`, and the inodes of the PID and user namespaces.
    pub fn from_parts(status: &str, pid_inode: Option<u64>, user_inode: Option<u64>) -> Privileges {
        let value = |key: &str| {
            status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
        };
        let namespace = |inode: Option<u64>, host: u64| {
            inode.map(|inode| if inode == host { Namespace::Host } else { Namespace::Own })
        };
        Privileges {
            capabilities: value("CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).map(Capabilities),
            // 1 is the strict mode, in which this program would not have come so far.
            seccomp_filter: value("Seccomp").map(|mode| mode == "2"),
            pid_namespace: namespace(pid_inode, HOST_PID_NAMESPACE),
            user_namespace: namespace(user_inode, HOST_USER_NAMESPACE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcowtrace\nUid:\t0\t0\t0\t0\nCapPrm:\t000001ffffffffff\n\
                          CapEff:\t000001fffeffffff\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n";

    #[test]
    fn a_root_shell() {
        let root = Privileges::from_parts(STATUS, Some(HOST_PID_NAMESPACE), Some(HOST_USER_NAMESPACE));
        let capabilities = root.capabilities.unwrap();
        assert!(capabilities.allow_tracing() && capabilities.has(Capability::Syslog));
        assert!(!capabilities.has(Capability::SysResource), "the one that is not in this set");
        assert_eq!(root.seccomp_filter, Some(false));
        assert_eq!((root.pid_namespace, root.user_namespace), (Some(Namespace::Host), Some(Namespace::Host)));
    }

    #[test]
    fn a_container() {
        let status = "CapEff:\t00000000a80425fb\nSeccomp:\t2\n";
        let container = Privileges::from_parts(status, Some(4_026_532_500), Some(4_026_532_501));
        assert!(!container.capabilities.unwrap().allow_tracing());
        assert_eq!(container.seccomp_filter, Some(true));
        assert_eq!(
            (container.pid_namespace, container.user_namespace),
            (Some(Namespace::Own), Some(Namespace::Own))
        );
    }

    #[test]
    fn two_capabilities_are_enough_and_one_is_not() {
        let (bpf, perfmon) = (1 << Capability::Bpf as u8, 1 << Capability::Perfmon as u8);
        assert!(Capabilities(bpf | perfmon).allow_tracing());
        assert!(!Capabilities(bpf).allow_tracing() && !Capabilities(perfmon).allow_tracing());
        assert_eq!(Capabilities(bpf | perfmon).lacking(), ["CAP_SYS_ADMIN", "CAP_SYSLOG"]);
        let (admin, syslog) = (1 << Capability::SysAdmin as u8, 1 << Capability::Syslog as u8);
        assert!(Capabilities(admin | syslog).lacking().is_empty() && Capabilities(admin).allow_tracing());
    }

    #[test]
    fn what_proc_does_not_tell_is_not_known() {
        let unknown = Privileges::from_parts("Name:\tx\nCapEff:\tgarbage\n", None, None);
        assert_eq!((unknown.capabilities, unknown.seccomp_filter), (None, None));
        assert_eq!((unknown.pid_namespace, unknown.user_namespace), (None, None));
    }
}
