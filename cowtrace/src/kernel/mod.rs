//! The running kernel: its version, its types, its symbols. The only place that knows kernels.

mod accounting;
mod btf;
mod info;
mod layout;
mod setting;
mod symbols;

pub use accounting::DelayAccounting;
pub use info::*;
pub use layout::{KernelLayout, LayoutError};
pub use setting::{KernelSetting, read_setting};
pub use symbols::{StackSymbols, Symbol, stack_symbols};
