//! What is checked before anything is loaded, so that a refusal has a plain reason.

use super::ProbeError;

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// Inode of the initial PID namespace, `PROC_PID_INIT_INO` in `include/linux/proc_ns.h`.
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Checks privileges and the PID namespace.
pub fn preflight() -> Result<(), ProbeError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Where /proc does not tell, the kernel's own refusal will.
    if effective_capabilities(&status).is_some_and(|caps| !is_enough(caps)) {
        return Err(ProbeError::NotPrivileged);
    }
    let namespace = std::fs::metadata("/proc/self/ns/pid").map(|m| std::os::unix::fs::MetadataExt::ino(&m));
    match namespace {
        Ok(inode) if inode != INITIAL_PID_NAMESPACE => Err(ProbeError::PidNamespace),
        _ => Ok(()),
    }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn is_enough(capabilities: u64) -> bool {
    capabilities & CAP_SYS_ADMIN != 0 || capabilities & (CAP_BPF | CAP_PERFMON) == CAP_BPF | CAP_PERFMON
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_two_capabilities_are_enough() {
        assert!(is_enough(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n").unwrap()));
        assert!(is_enough(CAP_BPF | CAP_PERFMON));
        assert!(!is_enough(CAP_BPF));
        assert!(!is_enough(effective_capabilities("CapEff:\t0000000000000000\n").unwrap()));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
