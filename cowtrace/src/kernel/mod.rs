//! The running kernel: its version, its types, its symbols. The only place that knows kernels.

mod accounting;
mod btf;
#[cfg(test)]
pub(crate) mod fixtures;
mod functions;
mod info;
mod layout;
mod lockdown;
mod preemption;
mod setting;
mod sightings;
mod symbols;
#[cfg(test)]
mod tests;
mod version;

pub use accounting::DelayAccounting;
pub use functions::{Attempt, KernelFunctions};
pub use info::*;
pub use layout::{KernelLayout, LayoutError};
pub use lockdown::{LOCKDOWN_FILE, Lockdown};
pub use preemption::{Preemption, preemption};
pub use setting::{KernelSetting, read_setting};
pub use sightings::{Sighting, Symbols, described_functions, symbols_in, symbols_named};
pub use symbols::{StackSymbols, Symbol, stack_symbols};
pub use version::version_of;
