//! What this kernel and these privileges allow: gathered, tried, and put in the user's words.
//!
//! One module per subject; each makes a fact of what files and the kernel answer, and of the fact a finding. Nothing
//! here needs privileges; what lacks them is told.

mod accounting;
mod backends;
mod bpf;
mod btf;
mod finding;
mod functions;
mod kallsyms;
mod kernel;
mod lockdown;
#[cfg(test)]
pub(crate) mod machines;
mod mappings;
mod memlock;
mod pagemap;
mod privileges;
mod settings;
mod tracefs;

use std::path::Path;

use serde::Serialize;

pub use accounting::AccountingFact;
pub use bpf::BpfFact;
pub use btf::BtfFact;
pub use finding::{Finding, State};
pub use functions::{FUNCTIONS, FunctionFact, Presence};
pub use kallsyms::KallsymsFact;
pub use kernel::{KernelFact, Preemption};
pub use lockdown::LockdownFact;
pub use mappings::MappingsFact;
pub use memlock::MemlockFact;
pub use pagemap::PagemapFact;
pub use privileges::PrivilegesFact;
pub use settings::SettingsFact;
pub use tracefs::TracefsFact;

use crate::{
    kernel::{described_functions, symbols_named},
    probe::{
        BackendTrial, BpfAnswer, Capabilities, Examination, HookTrial, Privileges, ProbeError, examine,
        no_backend, preflight, to_blame,
    },
};

/// `schema` of the JSON.
pub const DOCTOR_SCHEMA: &str = "cowtrace.doctor/1";

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Checkup {
    /// [`DOCTOR_SCHEMA`].
    pub schema: &'static str,
    /// This program.
    pub cowtrace: Program,
    /// Whether anything can be traced.
    pub works: bool,
    /// What `--backend auto` takes; `None` if nothing works.
    pub backend: Option<ChosenBackend>,
    /// Why nothing works.
    pub reason: Option<String>,
    /// The kernel.
    pub kernel: KernelFact,
    /// Each subject in words.
    pub findings: Vec<Finding>,
    /// The same for programs.
    pub facts: Facts,
    /// Every backend with its hooks, as the kernel took or refused them; best first.
    pub backends: Vec<BackendTrial>,
    /// The functions that they are interested in.
    pub functions: Vec<FunctionFact>,
}

/// This program.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Program {
    /// Its version.
    pub version: &'static str,
}

/// The backend in use, as reports have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChosenBackend {
    /// Its name.
    pub name: &'static str,
    /// What it cannot see.
    pub blind_to: Vec<&'static str>,
}

/// What the findings were made of.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Type information.
    pub btf: BtfFact,
    /// Kernel lockdown.
    pub lockdown: LockdownFact,
    /// Capabilities and namespaces.
    pub privileges: PrivilegesFact,
    /// The system call.
    pub bpf: BpfFact,
    /// Sysctls.
    pub settings: SettingsFact,
    /// Tracing files.
    pub tracefs: TracefsFact,
    /// Addresses of functions.
    pub kallsyms: KallsymsFact,
    /// Frames behind pages.
    pub pagemap: PagemapFact,
    /// Mapping records.
    pub mappings: MappingsFact,
    /// taskstats.
    pub accounting: AccountingFact,
    /// The limit on locked memory.
    pub memlock: MemlockFact,
}

/// Looks at everything, and tries every hook.
pub fn check_up() -> Checkup {
    let kernel = KernelFact::gather();
    let privileges = Privileges::of_this_process();
    let bpf = BpfAnswer::of_running_kernel();
    let symbols = symbols_named(&FUNCTIONS);
    let described = described_functions(Path::new(btf::PATH), &FUNCTIONS);
    let facts = Facts {
        btf: BtfFact::gather(described.as_ref().map(|_| ()).map_err(Clone::clone)),
        lockdown: LockdownFact::gather(bpf.reads_kernel_memory),
        privileges: PrivilegesFact::from_parts(&privileges),
        bpf: BpfFact::from_parts(&bpf, &privileges),
        settings: SettingsFact::gather(),
        tracefs: TracefsFact::gather(),
        kallsyms: KallsymsFact::from_parts(&symbols),
        pagemap: PagemapFact::gather(),
        mappings: MappingsFact::gather(),
        accounting: AccountingFact::gather(),
        memlock: MemlockFact::gather(&kernel.kernel.release, privileges.capabilities),
    };
    let functions = functions::facts(symbols.as_ref().ok(), described.as_deref().ok());
    Checkup::new(kernel, facts, functions, preflight(), examine())
}

impl Checkup {
    /// Puts it together: it works if `run` would start, which checks first and then takes the best backend.
    pub(crate) fn new(
        kernel: KernelFact,
        facts: Facts,
        functions: Vec<FunctionFact>,
        preflight: Result<(), ProbeError>,
        examination: Examination,
    ) -> Checkup {
        let outcome = match (preflight, examination.chosen) {
            (Err(error), _) => Err(error.to_string()),
            (Ok(()), None) => Err(refusals(&examination.backends, facts.privileges.set())),
            (Ok(()), Some(backend)) => Ok(backend),
        };
        let backend = outcome.as_ref().ok().map(|chosen| {
            let trial = examination.backends.iter().find(|trial| trial.backend == *chosen);
            let blind_to = trial.map(|trial| trial.blind_to.clone()).unwrap_or_default();
            ChosenBackend { name: chosen.name(), blind_to }
        });
        let mut findings = facts.findings(&kernel);
        if outcome.is_ok() {
            findings.extend(backends::finding(&examination));
        }
        Checkup {
            schema: DOCTOR_SCHEMA,
            cowtrace: Program { version: env!("CARGO_PKG_VERSION") },
            works: outcome.is_ok(),
            backend,
            reason: outcome.err(),
            findings,
            kernel,
            facts,
            backends: examination.backends,
            functions,
        }
    }
}

impl Checkup {
    /// Hooks of the backend in use that did not attach.
    pub fn lost_hooks(&self) -> impl Iterator<Item = &HookTrial> {
        let in_use = self.backend.iter().flat_map(|backend| {
            self.backends.iter().filter(move |trial| trial.backend.name() == backend.name)
        });
        in_use.flat_map(|trial| &trial.hooks).filter(|hook| hook.answer.is_some())
    }
}

impl Facts {
    fn findings(&self, kernel: &KernelFact) -> Vec<Finding> {
        let mut findings = vec![kernel.finding()];
        findings.extend(self.privileges.findings());
        findings.extend(self.settings.findings(self.privileges.may_trace));
        findings.extend([
            self.lockdown.finding(),
            self.bpf.finding(),
            self.btf.finding(),
            self.kallsyms.finding(self.settings.kptr_restrict),
            self.pagemap.finding(),
            self.mappings.finding(),
            self.accounting.finding(),
            self.tracefs.finding(),
            self.memlock.finding(),
        ]);
        findings
    }
}

/// Why no backend works: once, if it is the same for all. `capabilities`: those of this process.
fn refusals(backends: &[BackendTrial], capabilities: Option<Capabilities>) -> String {
    let refusal =
        |trial: &BackendTrial| trial.refusal.clone().unwrap_or_else(|| "does not work here".to_owned());
    match backends {
        [] => "this version of cowtrace has no backend for this machine".to_owned(),
        [first, rest @ ..] if rest.iter().all(|trial| trial.refusal == first.refusal) => refusal(first),
        _ => {
            let each = backends.iter().map(|trial| format!("{}: {}", trial.backend.name(), refusal(trial)));
            let hidden = ProbeError::HiddenSymbols.to_string();
            let hidden = backends.iter().any(|trial| trial.refusal.as_ref() == Some(&hidden));
            no_backend(&to_blame(hidden, capabilities), &each.collect::<Vec<_>>())
        }
    }
}
