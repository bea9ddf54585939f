//! Starting programs: what fork and exec, posix_spawn and vfork cost a process that has much memory.

mod fork_exec;
mod launch;
mod posix_spawn;
mod times;
mod vfork;

use crate::lab::experiment::Experiment;

pub(super) static EXPERIMENTS: [Experiment; 3] =
    [fork_exec::FORK_EXEC, posix_spawn::POSIX_SPAWN, vfork::VFORK];
