//! The running kernel: its version, its types, its symbols. The only place that knows kernels.

mod btf;
mod functions;
mod info;
mod layout;
mod lockdown;
mod symbols;
mod version;

pub use functions::{Sighting, Symbols, described_functions, symbols_in, symbols_named};
pub use info::*;
pub use layout::{KernelLayout, LayoutError};
pub use lockdown::{LOCKDOWN_FILE, Lockdown};
pub use symbols::{StackSymbols, Symbol, stack_symbols};
pub use version::version_of;
