//! Which hooks to use. What is decided about backends is decided here.

use aya::{
    Btf, Ebpf,
    programs::{FEntry, KProbe, ProgramError},
};
use clap::ValueEnum;
use cowtrace_abi::Kind;
use serde::Serialize;

use super::ProbeError;
use crate::model::KnownKinds;

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// The best that works.
    #[default]
    Auto,
    /// fentry/fexit programs on the kernel's copy functions.
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

    /// The kinds that it can tell apart; without page-table walks, those that need them are unknown.
    pub fn known_kinds(self, walks: bool) -> KnownKinds {
        if walks {
            return KnownKinds::all_but(&[Kind::Pinned]);
        }
        KnownKinds::all_but(&[
            Kind::Pinned,
            Kind::Copy,
            Kind::FileAfterRead,
            Kind::Ksm,
            Kind::Hugetlb,
            Kind::HugetlbReuse,
            Kind::Reuse,
            Kind::Shared,
        ])
    }
}

/// Decides for a backend. An explicit choice that does not work fails with the kernel's reason.
pub fn choose(choice: BackendChoice, object: &mut Ebpf, btf: &Btf) -> Result<Backend, ProbeError> {
    match choice {
        // fentry and kprobe tell more, but this version has no programs for them yet.
        BackendChoice::Auto | BackendChoice::Tracepoint => Ok(Backend::Tracepoint),
        BackendChoice::Fentry => Err(refusal("fentry", "fentry on do_wp_page", try_fentry(object, btf))),
        BackendChoice::Kprobe => Err(refusal("kprobe", "kprobe on do_wp_page", try_kprobe(object))),
    }
}

fn refusal(backend: &'static str, tried: &str, outcome: Result<(), ProgramError>) -> ProbeError {
    let answer = match outcome {
        Err(error) => ProbeError::kernels_answer(&error),
        Ok(()) => "the kernel allows it, but this version of cowtrace has no programs for it".to_owned(),
    };
    ProbeError::Backend { backend, tried: format!("attaching {tried}"), answer }
}

fn try_fentry(object: &mut Ebpf, btf: &Btf) -> Result<(), ProgramError> {
    let program: &mut FEntry = object.program_mut("try_fentry").ok_or(ProgramError::NotLoaded)?.try_into()?;
    program.load("do_wp_page", btf)?;
    let link = program.attach()?;
    program.detach(link)
}

fn try_kprobe(object: &mut Ebpf) -> Result<(), ProgramError> {
    let program: &mut KProbe = object.program_mut("try_kprobe").ok_or(ProgramError::NotLoaded)?.try_into()?;
    program.load()?;
    let link = program.attach("do_wp_page", 0)?;
    program.detach(link)
}
