//! Tries every backend by attaching it, and tells what the kernel answers.

use serde::Serialize;

use super::{Backend, BackendChoice, DEFAULT_MAX_TASKS, ProbeOptions, Probes};

/// What was tried, best first, and what would be used.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// Best first.
    pub backends: Vec<BackendTrial>,
    /// What `--backend auto` takes.
    pub chosen: Option<Backend>,
}

/// One backend.
#[derive(Clone, Debug, Serialize)]
pub struct BackendTrial {
    /// Which.
    pub backend: Backend,
    /// Whether it can be used.
    pub works: bool,
    /// Why not.
    pub refusal: Option<String>,
    /// What it cannot see.
    pub blind_to: Vec<&'static str>,
    /// Each of its hooks.
    pub hooks: Vec<HookTrial>,
}

/// One hook.
#[derive(Clone, Debug, Serialize)]
pub struct HookTrial {
    /// Kind and function, such as `fentry do_wp_page`.
    pub hook: String,
    /// Whether the backend is useless without it.
    pub required: bool,
    /// The function or tracepoint that was attached to.
    pub target: Option<String>,
    /// The kernel's answer; `None`: it attached.
    pub answer: Option<String>,
    /// What is lost without it, in the user's words.
    pub gives: &'static str,
}

/// Loads and attaches each backend, and detaches it again.
pub fn examine() -> Examination {
    let trials = [
        (Backend::Fentry, BackendChoice::Fentry),
        (Backend::Kprobe, BackendChoice::Kprobe),
        (Backend::Tracepoint, BackendChoice::Tracepoint),
    ];
    let backends: Vec<_> = trials.map(|(backend, choice)| attempt(backend, choice)).into();
    let chosen = backends.iter().find(|trial| trial.works).map(|trial| trial.backend);
    Examination { backends, chosen }
}

fn attempt(backend: Backend, choice: BackendChoice) -> BackendTrial {
    let options = ProbeOptions { regions: true, backend: choice, max_tasks: DEFAULT_MAX_TASKS, log_level: 0 };
    let outcome = Probes::load(&options).and_then(|mut probes| probes.attach());
    let refusal = outcome.err().map(|error| error.to_string());
    let blind_to = backend.blind_to().to_vec();
    BackendTrial { backend, works: refusal.is_none(), refusal, blind_to, hooks: Vec::new() }
}
