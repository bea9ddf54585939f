//! The running kernel: its version, its types, its symbols. The only place that knows kernels.

mod btf;
#[cfg(test)]
pub(crate) mod fixtures;
mod functions;
mod info;
mod layout;
mod preemption;
mod symbols;
#[cfg(test)]
mod tests;

pub use functions::{Attempt, KernelFunctions};
pub use info::*;
pub use layout::{KernelLayout, LayoutError};
pub use preemption::{Preemption, preemption};
pub use symbols::{StackSymbols, Symbol, stack_symbols};
