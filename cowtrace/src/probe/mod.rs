//! Loading and attaching the eBPF programs: the only place that does.

mod adopt;
mod backend;
mod calibration;
mod error;
mod examine;
mod hooks;
#[cfg(test)]
mod hooks_tests;
mod latency;
mod mappings;
mod object;
mod preflight;
mod privileges;
mod programs;
mod running;
mod shared_array;
mod slots;
mod stack_maps;
mod trial;

pub use backend::{Backend, BackendChoice, to_blame};
pub use error::{ProbeError, no_backend};
pub use examine::{BackendTrial, Examination, HookTrial, examine};
pub use mappings::*;
pub use object::{DEFAULT_MAX_TASKS, ProbeOptions, Probes};
pub use preflight::{BpfAnswer, advice_on_refusal, preflight};
pub use privileges::{Capabilities, Capability, Namespace, Privileges};
pub use running::KernelKept;
pub use slots::Slots;
pub use stack_maps::{CountedStack, StackMaps};

/// Keeps what is read of the kernel for the sessions to come: without that, each of them reads it anew.
pub fn keep_kernel(choice: BackendChoice) -> KernelKept {
    running::Kernel::keep(choice)
}
