//! A living process, known by a handle: its number may come to mean another one.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ProcError;

/// A process that was there when the handle was made.
#[derive(Debug)]
pub struct ProcessHandle {
    pid: u32,
    fd: OwnedFd,
}

impl ProcessHandle {
    /// Of the process with this id.
    ///
    /// # Errors
    /// It is gone, or the kernel has no such handles (before Linux 5.3).
    pub fn open(pid: u32) -> io::Result<ProcessHandle> {
        // SAFETY: no pointers; answers with a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(ProcessHandle { pid, fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; none if the process is gone.
    pub fn signal(&self, signal: libc::c_int) {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; without siginfo the signal is as from kill(2). Fails if the process
        // is gone.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, none, 0) };
    }

    /// Whether it has ended; a zombie has.
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        // An error can only be a signal's, or want of memory: asked again, it will tell.
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for ProcessHandle {
    /// Readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<ProcessHandle> for OwnedFd {
    /// For an event loop, which owns what it watches.
    fn from(handle: ProcessHandle) -> OwnedFd {
        handle.fd
    }
}

/// Whether every thread of the process is stopped, by a signal or a debugger. True if it is gone.
///
/// # Errors
/// `/proc` cannot be read.
pub fn stands_still(pid: u32) -> Result<bool, ProcError> {
    for thread in threads(pid)? {
        match fs::read_to_string(format!("{thread}/stat")) {
            Ok(stat) if is_stopped(&stat) => {}
            Ok(_) => return Ok(false),
            // It ended since the list was read.
            Err(error) if is_gone(&error) => {}
            Err(source) => return Err(ProcError::Process { pid, file: "task/TID/stat", source }),
        }
    }
    Ok(true)
}

/// Folders of its threads in `/proc`; none if it is gone.
///
/// # Errors
/// `/proc` cannot be read.
pub fn threads(pid: u32) -> Result<Vec<String>, ProcError> {
    let folder = format!("/proc/{pid}/task");
    match fs::read_dir(&folder) {
        Ok(list) => {
            Ok(list.flatten().map(|entry| format!("{folder}/{}", entry.file_name().display())).collect())
        }
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(source) => Err(ProcError::Process { pid, file: "task", source }),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// From a line of stat: the name in parentheses may hold anything, the state comes after it.
fn is_stopped(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

#[cfg(test)]
mod tests {
    use std::{
        process::Command,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn the_state_comes_after_the_name() {
        assert!(is_stopped("12 (redis-server) T 1 12 12 0 -1 4194304"));
        assert!(is_stopped("12 (traced) t 1 12 12 0 -1 4194304"));
        assert!(!is_stopped("12 (a) T b) S 1 12 12 0 -1 4194304"));
    }

    #[test]
    fn a_process_is_stopped_and_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let handle = ProcessHandle::open(child.id()).unwrap();
        assert!(!handle.is_gone() && !stands_still(child.id()).unwrap());
        handle.signal(libc::SIGSTOP);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !stands_still(child.id()).unwrap() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(stands_still(child.id()).unwrap() && !handle.is_gone());
        handle.signal(libc::SIGKILL);
        child.wait().unwrap();
        assert!(handle.is_gone());
        assert_eq!(threads(child.id()).unwrap(), Vec::<String>::new());
    }
}
