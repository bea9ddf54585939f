//! One process of an experiment: known by a handle, not by its number.

use std::{
    fs, io,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::proc::ProcessHandle;

/// A process of the step.
pub(super) struct Member {
    pub pid: u32,
    /// Not the number, which may come to mean another process.
    pub handle: ProcessHandle,
    /// Number of the checkpoint at which it last reported.
    pub checkpoint: Option<u32>,
    /// Addresses of the step's buffer; empty while there is none.
    pub buffer: std::ops::Range<u64>,
}

impl Member {
    pub fn new(pid: u32) -> anyhow::Result<Member> {
        let handle = ProcessHandle::open(pid)
            .with_context(|| format!("cannot open process {pid} (pidfd_open; Linux 5.3 or later)"))?;
        Ok(Member { pid, handle, checkpoint: None, buffer: 0..0 })
    }

    /// Sends a signal; none if the process is gone.
    pub fn signal(&self, signal: libc::c_int) {
        self.handle.signal(signal);
    }

    /// Whether it ended within this time.
    pub fn wait_until_gone(&self, patience: Duration) -> anyhow::Result<bool> {
        wait_on(&mut [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)], Instant::now() + patience)
    }
}

pub(super) fn readable(fd: &PollFd<'_>) -> bool {
    fd.revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
}

/// Whether one of these became readable or was closed before the deadline.
pub(super) fn wait_on(fds: &mut [PollFd<'_>], deadline: Instant) -> anyhow::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(fds, timeout) {
            Ok(ready) => return Ok(ready > 0),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the lab's workload (poll)"),
        }
    }
}

/// Whether the process sleeps in read(2) on this descriptor.
pub(super) fn blocked(pid: u32, fd: i32) -> anyhow::Result<bool> {
    match fs::read_to_string(format!("/proc/{pid}/syscall")) {
        // "running", "-1 …" outside of a system call, or its number and arguments.
        Ok(text) => {
            let mut words = text.split_whitespace();
            let number = words.next().and_then(|word| word.parse().ok());
            let first = words.next().and_then(|word| i32::from_str_radix(word.strip_prefix("0x")?, 16).ok());
            Ok(number == Some(libc::SYS_read) && first == Some(fd))
        }
        // A kernel without this file: asleep, and then it can only be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
                .with_context(|| format!("the lab's process {pid} is gone"))?;
            Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot read /proc/{pid}/syscall; run the lab as root"))
        }
    }
}
