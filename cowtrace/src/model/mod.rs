//! What was traced, as plain data: no I/O, no eBPF, no command line.

mod address_space;
mod code_map;
mod fault;
mod folded;
mod forecast;
mod fork_series;
mod latency;
mod page_event;
mod pages;
mod region_counts;
mod report;
mod stacks;
mod trace;

pub use address_space::*;
pub use code_map::*;
pub use fault::*;
pub use folded::*;
pub use forecast::*;
pub use fork_series::*;
pub use latency::*;
pub use page_event::*;
pub use pages::*;
pub use region_counts::*;
pub use report::*;
pub use stacks::*;
pub use trace::*;
