//! The running kernel: its version, its types, its symbols. The only place that knows kernels.

mod btf;
mod functions;
mod info;
mod layout;
mod preemption;
mod symbols;

pub use functions::{Attempt, KernelFunctions};
pub use info::*;
pub use layout::{KernelLayout, LayoutError};
pub use preemption::{Preemption, preemption};
pub use symbols::{StackSymbols, Symbol, stack_symbols};
