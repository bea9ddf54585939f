//! What can go wrong when `/proc` is read, in words that tell what to do.

use std::io;

/// Reading a process's memory state failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// A file of the process could not be opened or read.
    #[error("cannot read /proc/{pid}/{file}: {source}{}", advice(.source))]
    Process {
        /// The process.
        pid: u32,
        /// The file below `/proc/PID/`.
        file: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// smaps was read, but not understood.
    #[error("cannot parse /proc/{pid}/smaps: {source}")]
    Smaps {
        /// The process.
        pid: u32,
        /// What the parser said.
        source: procfs::ProcError,
    },
    /// status or stat could not be read or was not understood.
    #[error("cannot read the sizes of process {pid}: {source}")]
    Status {
        /// The process.
        pid: u32,
        /// What the reader said.
        source: procfs::ProcError,
    },
    /// The kernel's table of frames could not be read.
    #[error("cannot read {file}: {source}{}", advice(.source))]
    Frames {
        /// The file.
        file: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's accounting of a process could not be read.
    #[error(
        "cannot read taskstats of process {pid}: {source}; the kernel needs CONFIG_TASKSTATS, the reader CAP_NET_ADMIN"
    )]
    TaskStats {
        /// The process.
        pid: u32,
        /// The kernel's answer, or what is wrong with it.
        source: io::Error,
    },
    /// The kernel's accounting of processes that exit could not be listened to.
    #[error(
        "cannot listen to taskstats: {source}; the kernel needs CONFIG_TASKSTATS, the reader CAP_NET_ADMIN (run as root)"
    )]
    TaskStatsListener {
        /// The kernel's answer, or what is wrong with it.
        source: io::Error,
    },
    /// The kernel hides the frame numbers.
    #[error("/proc/{pid}/pagemap shows no frame numbers: they need CAP_SYS_ADMIN; run as root")]
    HiddenFrames {
        /// The process.
        pid: u32,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as root",
        io::ErrorKind::NotFound => {
            "; the process is gone, or the kernel was built without CONFIG_PROC_PAGE_MONITOR"
        }
        _ => "",
    }
}
