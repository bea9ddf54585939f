//! Which backends and hooks work here, learnt by attaching each of them.

use serde::Serialize;

use super::{
    Backend, BackendChoice, ProbeError, backend,
    hooks::{self, Hook},
    object::{config_of, load_object},
    programs,
    running::Kernel,
};

/// What every backend answered.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// Best first.
    pub backends: Vec<BackendTrial>,
    /// What `--backend auto` takes.
    pub chosen: Option<Backend>,
}

/// What one backend answered.
#[derive(Clone, Debug, Serialize)]
pub struct BackendTrial {
    /// Which.
    pub backend: Backend,
    /// Whether it can be used.
    pub works: bool,
    /// If not, why.
    pub refusal: Option<String>,
    /// Copies that it cannot see.
    pub blind_to: Vec<&'static str>,
    /// Its hooks, as far as the kernel can have them.
    pub hooks: Vec<HookTrial>,
}

/// What the kernel answered to one hook.
#[derive(Clone, Debug, Serialize)]
pub struct HookTrial {
    /// Such as `fentry do_wp_page`.
    pub hook: String,
    /// Whether the backend does not work without it.
    pub required: bool,
    /// The function or tracepoint that it was attached to.
    pub target: Option<String>,
    /// The kernel's answer; `None`: it is attached.
    pub answer: Option<String>,
    /// What it tells, which is unknown without it.
    pub gives: &'static str,
}

/// Loads and attaches each hook of each backend, and detaches it again. Nothing is traced.
pub fn examine() -> Examination {
    let kernel = Kernel::read(BackendChoice::Auto, true);
    let trial = |backend| match &kernel {
        Ok(kernel) => trial_of(backend, kernel),
        Err(error) => refused(backend, error.to_string()),
    };
    let backends: Vec<BackendTrial> = backend::by_preference().into_iter().map(trial).collect();
    let chosen = backends.iter().find(|trial| trial.works).map(|trial| trial.backend);
    Examination { backends, chosen }
}

fn refused(backend: Backend, reason: String) -> BackendTrial {
    BackendTrial {
        backend,
        works: false,
        refusal: Some(reason),
        blind_to: backend.blind_to().to_vec(),
        hooks: Vec::new(),
    }
}

fn trial_of(backend: Backend, kernel: &Kernel) -> BackendTrial {
    if backend == Backend::Tracepoint
        && let Err(reason) = backend::enough_symbols(kernel.stack_symbols())
    {
        return refused(backend, reason.to_string());
    }
    let hooks = match hooks::hooks(backend, &kernel.layout) {
        Ok(hooks) => hooks,
        Err(reason) => return refused(backend, reason.to_string()),
    };
    let hooks = match try_all(backend, kernel, &hooks) {
        Ok(hooks) => hooks,
        Err(error) => return refused(backend, error.to_string()),
    };
    let missing = hooks.iter().find(|trial| trial.required && trial.answer.is_some());
    let refusal = missing
        .map(|trial| format!("attaching {}: {}", trial.hook, trial.answer.as_deref().unwrap_or_default()));
    BackendTrial { backend, works: refusal.is_none(), refusal, blind_to: backend.blind_to().to_vec(), hooks }
}

fn try_all(backend: Backend, kernel: &Kernel, hooks: &[Hook]) -> Result<Vec<HookTrial>, ProbeError> {
    // Maps of no size: nothing is counted.
    let mut object = load_object(&config_of(backend, &kernel.layout, true, false, false), 1, 0)?;
    let mut trials = Vec::new();
    for hook in hooks {
        let mut answer = Err(String::new());
        let mut point = hook.point;
        for (programs, at) in [Some((hook.programs, hook.point)), hook.instead].into_iter().flatten() {
            let hook = Hook { programs, point: at, ..*hook };
            point = at;
            for tried in programs::load(&mut object, &kernel.btf, &[hook]) {
                answer = tried
                    .outcome
                    .and_then(|name| programs::attach(&mut object, name, at))
                    .map_err(|error| ProbeError::kernels_answer(&error));
            }
            if answer.is_ok() {
                break;
            }
        }
        trials.push(HookTrial {
            hook: point.to_string(),
            required: hook.is_required(),
            target: answer.is_ok().then(|| point.target().to_owned()),
            answer: answer.err(),
            gives: hook.gives.words(),
        });
    }
    Ok(trials)
}
