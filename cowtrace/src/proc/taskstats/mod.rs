//! The kernel's own figures of threads that live and of those that exit: generic netlink family TASKSTATS.

mod exits;
mod netlink;
mod processes;
mod record;

use std::io;

pub use exits::{ExitListener, Exits};
use netlink::Channel;
pub use processes::Exited;
pub use record::TaskStatsLayout;
use record::{Stats, stats_of};

use super::ProcError;

// From linux/taskstats.h.
const CMD_GET: u8 = 1;
const ATTR_PID: u16 = 1;

/// `wpcopy_count` of a living thread; `None` if this kernel does not have it.
///
/// It is 0 for a thread that was started while `kernel.task_delayacct` was 0.
///
/// # Errors
/// The thread is gone, or the kernel gives no accounting (CAP_NET_ADMIN, CONFIG_TASKSTATS).
pub fn wpcopy_count(tid: u32) -> Result<Option<u64>, ProcError> {
    let stats = read(tid).map_err(|source| ProcError::TaskStats { pid: tid, source })?;
    Ok(stats.wpcopy)
}

/// What this kernel's figures hold.
///
/// # Errors
/// The kernel gives no accounting (CAP_NET_ADMIN, CONFIG_TASKSTATS).
pub fn taskstats_layout() -> Result<TaskStatsLayout, ProcError> {
    let own = std::process::id();
    let stats = read(own).map_err(|source| ProcError::TaskStats { pid: own, source })?;
    Ok(TaskStatsLayout::of_version(stats.version))
}

fn read(tid: u32) -> io::Result<Stats> {
    let channel = Channel::open()?;
    channel.ask(CMD_GET, ATTR_PID, &tid.to_ne_bytes(), false)?;
    stats_of(&channel.answer()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_thread_has_a_count_or_an_error_says_why() {
        match wpcopy_count(std::process::id()) {
            Ok(_) | Err(ProcError::TaskStats { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_layout_of_this_kernel_is_known_or_an_error_says_why() {
        match taskstats_layout() {
            Ok(layout) => assert!(layout.version >= 8, "{layout:?}"),
            Err(ProcError::TaskStats { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
