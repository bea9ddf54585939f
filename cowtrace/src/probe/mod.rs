//! Loading and attaching the eBPF programs: the only place that does.

mod backend;
mod calibration;
mod error;
mod examine;
mod mappings;
mod object;
mod preflight;
mod privileges;

pub use backend::{Backend, BackendChoice, choose};
pub use error::ProbeError;
pub use examine::{BackendTrial, Examination, HookTrial, examine};
pub use mappings::*;
pub use object::{DEFAULT_MAX_TASKS, ProbeOptions, Probes, Slots};
pub use preflight::{BpfAnswer, advice_on_refusal, preflight};
pub use privileges::{Capabilities, Capability, Namespace, Privileges};
