//! Settings of the kernel that decide who may trace, and how fast.

use std::fs;

use serde::Serialize;

use super::finding::{Finding, State};

/// The settings; `None` where this process cannot read one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SettingsFact {
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i64>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i64>,
    /// `net.core.bpf_jit_enable`; only root may read it.
    pub bpf_jit_enable: Option<i64>,
}

impl SettingsFact {
    pub(super) fn gather() -> SettingsFact {
        Self::from_texts(|name| fs::read_to_string(format!("/proc/sys/{name}")).ok())
    }

    pub(super) fn from_texts(text: impl Fn(&str) -> Option<String>) -> SettingsFact {
        let value = |name: &str| text(name)?.trim().parse().ok();
        SettingsFact {
            unprivileged_bpf_disabled: value("kernel/unprivileged_bpf_disabled"),
            perf_event_paranoid: value("kernel/perf_event_paranoid"),
            kptr_restrict: value("kernel/kptr_restrict"),
            bpf_jit_enable: value("net/core/bpf_jit_enable"),
        }
    }

    /// Only what matters to this process.
    pub(super) fn findings(&self, may_trace: Option<bool>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let value =
            |setting: Option<i64>| setting.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        if may_trace == Some(false) {
            let (bpf, perf) = (value(self.unprivileged_bpf_disabled), value(self.perf_event_paranoid));
            let found = format!(
                "kernel.unprivileged_bpf_disabled is {bpf}, kernel.perf_event_paranoid is {perf}; no value of theirs lets \
                 a user trace the kernel without privileges"
            );
            findings.push(Finding::new("settings", State::Unneeded, found));
        }
        if self.bpf_jit_enable == Some(0) {
            let found = "net.core.bpf_jit_enable is 0: programs are interpreted";
            findings.push(
                Finding::new("compiler (JIT)", State::Limited, found).but(
                    "each fault costs more, and fentry cannot be used",
                    "sysctl net.core.bpf_jit_enable=1",
                ),
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(jit: &'static str) -> SettingsFact {
        SettingsFact::from_texts(|name| match name {
            "kernel/perf_event_paranoid" => Some("-1\n".to_owned()),
            "kernel/unprivileged_bpf_disabled" => Some("2\n".to_owned()),
            "net/core/bpf_jit_enable" => Some(jit.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn settings_are_told_to_whom_they_matter() {
        let read = settings("1\n");
        assert_eq!((read.perf_event_paranoid, read.kptr_restrict), (Some(-1), None));
        assert!(read.findings(Some(true)).is_empty());
        let [finding] = &read.findings(Some(false))[..] else { panic!("one finding") };
        assert!(finding.found.contains("unprivileged_bpf_disabled is 2"), "{}", finding.found);
    }

    #[test]
    fn a_compiler_that_is_off_costs() {
        let [finding] = &settings("0\n").findings(Some(true))[..] else { panic!("one finding") };
        assert_eq!(finding.state, State::Limited);
    }
}
