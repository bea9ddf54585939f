//! What kernel this is, and when it lets go of a processor.

use std::fs;

use serde::Serialize;

use super::finding::{Finding, State};
use crate::{kernel::running_kernel, model::KernelFacts};

/// The kernel.
#[derive(Clone, Debug, Serialize)]
pub struct KernelFact {
    /// As in all reports.
    #[serde(flatten)]
    pub kernel: KernelFacts,
    /// As `uname -v` shows it.
    pub version: String,
    /// Processors that are in use.
    pub cpus: usize,
    /// When a thread in the kernel can be interrupted by another.
    pub preemption: Preemption,
}

/// The preemption model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preemption {
    /// What the kernel was built for.
    pub built: &'static str,
    /// What is in force, where that can be chosen at boot; `None` if it is not told.
    pub active: Option<String>,
}

impl Preemption {
    /// From `uname -v`, and from the text of `sched/preempt` in debugfs.
    pub(super) fn from_texts(version: &str, debugfs: Option<&str>) -> Preemption {
        let has = |wanted: &str| version.split_ascii_whitespace().any(|word| word == wanted);
        let built = match () {
            () if has("PREEMPT_RT") => "real-time",
            () if has("PREEMPT_DYNAMIC") => "dynamic",
            () if has("PREEMPT_LAZY") => "lazy",
            () if has("PREEMPT") => "full",
            () => "none or voluntary",
        };
        let chosen = |text: &str| Some(text.split_once('(')?.1.split_once(')')?.0.to_owned());
        Preemption { built, active: debugfs.and_then(chosen) }
    }
}

impl KernelFact {
    /// Of the running kernel.
    pub(super) fn gather() -> KernelFact {
        let uname = nix::sys::utsname::uname();
        let version = uname.map(|name| name.version().to_string_lossy().into_owned()).unwrap_or_default();
        let debugfs = fs::read_to_string("/sys/kernel/debug/sched/preempt").ok();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let preemption = Preemption::from_texts(&version, debugfs.as_deref());
        KernelFact { kernel: running_kernel(), version, cpus, preemption }
    }

    pub(super) fn finding(&self) -> Finding {
        let KernelFacts { release, arch, page_size } = &self.kernel;
        let active = self.preemption.active.as_ref().map_or_else(String::new, |name| format!(", now {name}"));
        let (cpus, plural) = (self.cpus, if self.cpus == 1 { "" } else { "s" });
        Finding::new(
            "kernel",
            State::Good,
            format!(
                "Linux {release} {arch}, pages of {} KiB, {cpus} CPU{plural}, preemption: {}{active}",
                page_size / 1024,
                self.preemption.built
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preemption_as_kernels_tell_it() {
        let built = |version: &str| Preemption::from_texts(version, None).built;
        assert_eq!(built("#1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1 (2026-07-01)"), "dynamic");
        assert_eq!(built("#1 SMP Debian 5.10.223-1 (2024-08-10)"), "none or voluntary");
        assert_eq!(built("#1 SMP PREEMPT Wed Jun 10"), "full");
        assert_eq!(built("#1 SMP PREEMPT_RT Debian 6.1.176-1"), "real-time");
        let now = |text: &str| Preemption::from_texts("", Some(text)).active;
        assert_eq!(now("none voluntary (full) lazy\n").as_deref(), Some("full"));
        assert_eq!(now("none voluntary\n"), None);
    }
}
