//! The running kernel: its version, its types, its symbols. The only place that knows kernels.

mod btf;
mod info;
mod layout;
mod setting;
mod symbols;

pub use info::*;
pub use layout::{KernelLayout, LayoutError};
pub use setting::{DELAY_ACCOUNTING, KernelSetting, read_setting};
pub use symbols::{StackSymbols, Symbol, stack_symbols};
