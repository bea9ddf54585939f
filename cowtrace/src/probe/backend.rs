//! Which hooks to use. What is decided about backends is decided here.

use std::path::Path;

use clap::ValueEnum;
use cowtrace_abi::Kind;
use serde::Serialize;

use super::{
    Capabilities, Capability, Privileges, ProbeError, hooks::Point, running::Kernel, trial::load_fentry,
};
use crate::{
    kernel::{Preemption, StackSymbols, preemption},
    model::KnownKinds,
};

/// Where perf shows that it has kprobes.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// The best that works.
    #[default]
    Auto,
    /// fentry programs on the kernel's copy functions.
    Fentry,
    /// kprobes on the same functions.
    Kprobe,
    /// Page-fault, page-allocation and counter tracepoints.
    Tracepoint,
}

/// What is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// See [`BackendChoice::Fentry`].
    Fentry,
    /// See [`BackendChoice::Kprobe`].
    Kprobe,
    /// See [`BackendChoice::Tracepoint`].
    Tracepoint,
}

impl Backend {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Fentry => "fentry",
            Backend::Kprobe => "kprobe",
            Backend::Tracepoint => "tracepoint",
        }
    }

    /// What it cannot see: writes by other means than a page fault, and copies made at fork time.
    pub fn blind_to(self) -> &'static [&'static str] {
        match self {
            Backend::Fentry | Backend::Kprobe => &[],
            Backend::Tracepoint => &["gup", "pinned"],
        }
    }

    /// The kinds that it can tell apart. `walks`: page tables can be read; `unknown`: kinds whose hooks are missing.
    pub fn known_kinds(self, walks: bool, unknown: &[Kind]) -> KnownKinds {
        let mut unknown = unknown.to_vec();
        if self == Backend::Tracepoint {
            unknown.extend([Kind::Pinned, Kind::Raced, Kind::HugeSplit]);
            if !walks {
                unknown.extend([
                    Kind::Copy,
                    Kind::FileAfterRead,
                    Kind::Ksm,
                    Kind::Hugetlb,
                    Kind::HugetlbReuse,
                    Kind::Reuse,
                    Kind::Shared,
                ]);
            }
        }
        KnownKinds::all_but(&unknown)
    }

    /// Why kinds are `null` in a report, a sentence each.
    pub fn unknown_reasons(self, known: &KnownKinds) -> Vec<String> {
        let mut reasons = Vec::new();
        if self == Backend::Tracepoint {
            reasons
                .push("pinned: copies at fork time raise no page fault, and this backend sees only faults");
            reasons.push("raced: that a copy came too late is told by no tracepoint; wpcopy counts it");
            reasons.push("thp_splits: told by no tracepoint");
            if !known.has(Kind::Copy) {
                reasons.push(
                    "copy, file, ksm, hugetlb, reuse, shared: the kernel's page tables could not be read, so what \
                     was copied is not known; wpcopy still counts every copy",
                );
            }
        } else {
            if !known.has(Kind::Pinned) {
                reasons.push("pinned, fork_ns: the kernel refuses a hook on its function kernel_clone");
            }
            if !known.has(Kind::Hugetlb) {
                reasons
                    .push("hugetlb, wpcopy: the kernel refuses hooks on its hugetlb functions, or has none");
            }
            if !known.has(Kind::HugeSplit) {
                reasons.push("thp_splits: the kernel refuses a hook on __split_huge_pmd, or has none");
            }
        }
        if !known.has(Kind::Denied) {
            reasons.push("denied: the kernel refuses a hook on the tracepoint signal_generate");
        }
        reasons.into_iter().map(str::to_owned).collect()
    }
}

/// All backends, the preferred one first.
///
/// fentry is cheapest and sees everything. Where the kernel can be preempted, it may skip a program of the kinds fentry and
/// BTF tracepoint that was preempted in another thread (counted in `lost.events`); kprobes run with preemption off.
pub(super) fn by_preference() -> [Backend; 3] {
    match preemption() {
        Preemption::Off => [Backend::Fentry, Backend::Kprobe, Backend::Tracepoint],
        Preemption::On | Preemption::Unknown => [Backend::Kprobe, Backend::Fentry, Backend::Tracepoint],
    }
}

/// Loads the backend that was asked for, or the first that works. An explicit choice that does not work fails with the
/// kernel's reason.
pub(super) fn first_that_works<T>(
    choice: BackendChoice,
    kernel: &Kernel,
    mut load: impl FnMut(Backend) -> Result<T, ProbeError>,
) -> Result<T, ProbeError> {
    let only = match choice {
        BackendChoice::Auto => None,
        BackendChoice::Fentry => Some(Backend::Fentry),
        BackendChoice::Kprobe => Some(Backend::Kprobe),
        BackendChoice::Tracepoint => Some(Backend::Tracepoint),
    };
    let mut attempt = |backend: Backend| {
        kernel.trials.answer(backend)?;
        load(backend)
    };
    if let Some(backend) = only {
        return attempt(backend).map_err(|error| error.of_backend(backend.name()));
    }
    let mut refusals = Vec::new();
    for backend in by_preference() {
        match attempt(backend) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => {
                tracing::info!("no {} backend: {error}", backend.name());
                refusals.push((backend.name(), error));
            }
        }
    }
    let hidden = refusals.iter().any(|(_, error)| matches!(error, ProbeError::HiddenSymbols));
    Err(ProbeError::NoBackend {
        lacking: to_blame(hidden, Privileges::of_this_process().capabilities),
        refusals,
    })
}

/// The capabilities that this process lacks, where that is why no backend works: with them, the kernel's symbols would not be
/// `hidden`. A `kernel.kptr_restrict` of 2 hides them from everybody.
pub fn to_blame(hidden: bool, capabilities: Option<Capabilities>) -> Vec<&'static str> {
    let lacks_syslog = |set: &Capabilities| hidden && !set.has(Capability::Syslog);
    capabilities.filter(lacks_syslog).map(Capabilities::lacking).unwrap_or_default()
}

/// What the tracepoint backend needs of the kernel's symbols; without it, copies by system calls would be taken for others.
pub(super) fn enough_symbols(symbols: StackSymbols) -> Result<StackSymbols, ProbeError> {
    if symbols.page_fault.is_none() || symbols.wp_page.is_none() {
        return Err(ProbeError::HiddenSymbols);
    }
    Ok(symbols)
}

/// The function that every function backend hooks.
pub(super) const MAIN_HOOK: &str = "do_wp_page";

/// Whether the kernel takes hooks on its functions at all: most refuse one kind or the other altogether.
pub(super) struct Trials {
    fentry: Result<(), String>,
    kprobe: Result<(), String>,
}

impl Trials {
    /// Asks the kernel. `main_function`: the number of [`MAIN_HOOK`] in its types.
    pub(super) fn make(main_function: Option<u32>) -> Trials {
        let fentry = match main_function {
            Some(function) => load_fentry(function).map_err(|error| error.to_string()),
            None => Err("the kernel's types have no such function".to_owned()),
        };
        let kprobe = match Path::new(KPROBES).exists() {
            true => Ok(()),
            false => Err(format!(
                "No such file or directory (os error 2): {KPROBES}, as in a kernel built without kprobes"
            )),
        };
        Trials { fentry, kprobe }
    }

    /// Whether any kind works.
    pub(super) fn any(&self) -> bool {
        self.fentry.is_ok() || self.kprobe.is_ok()
    }

    fn answer(&self, backend: Backend) -> Result<(), ProbeError> {
        let (outcome, point) = match backend {
            Backend::Fentry => (&self.fentry, Point::Fentry(MAIN_HOOK)),
            Backend::Kprobe => (&self.kprobe, Point::Kprobe(MAIN_HOOK)),
            Backend::Tracepoint => return Ok(()),
        };
        outcome.clone().map_err(|answer| ProbeError::Hook { tried: point.to_string(), answer })
    }
}
