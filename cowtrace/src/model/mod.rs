//! What was traced, as plain data: no I/O, no eBPF, no command line.

mod address_space;
mod code_map;
mod fault;
mod forecast;
mod fork_series;
mod page_event;
mod pages;
mod region_counts;
mod report;
mod stacks;

pub use address_space::*;
pub use code_map::*;
pub use fault::*;
pub use forecast::*;
pub use fork_series::*;
pub use page_event::*;
pub use pages::*;
pub use region_counts::*;
pub use report::*;
pub use stacks::*;
