//! What `/proc` says about a process's memory: mappings with their smaps figures, and the frames behind the
//! pages.

mod error;
mod handle;
mod pagemap;
mod running;
mod smaps;
mod snapshot;
mod status;
mod taskstats;
mod vmstat;

pub use error::ProcError;
pub use handle::{ProcessHandle, stands_still, threads};
pub use pagemap::{Entry, FrameFlags, Pagemap};
pub use running::{Running, cgroup_folder, in_cgroup, thread_group};
pub use smaps::{Vma, read_smaps};
pub use snapshot::{AnonPage, Snapshot};
pub use status::Status;
pub use taskstats::{ExitListener, Exited, Exits, TaskStatsLayout, taskstats_layout, wpcopy_count};
pub use vmstat::vmstat;
