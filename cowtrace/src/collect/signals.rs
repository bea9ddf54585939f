//! Ctrl-C and its like, read from a descriptor, so that every end is an orderly one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

/// Signals that end a session.
pub const WATCHED: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// The watched signals, blocked for this process and readable here.
pub struct Interrupts {
    fd: SignalFd,
}

/// One signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Which.
    pub signal: Signal,
    /// True if a terminal sent it: then the command, in the same foreground group, got it as well.
    pub from_terminal: bool,
}

impl Interrupts {
    /// Blocks the signals for this thread and all that it starts later; call it before any other thread runs.
    pub fn watch() -> nix::Result<Interrupts> {
        let mut set = SigSet::empty();
        for signal in WATCHED {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Interrupts { fd })
    }

    /// Takes the next signal, if one has come.
    pub fn take(&mut self) -> Option<Interrupt> {
        let info = self.fd.read_signal().ok().flatten()?;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        Some(Interrupt { signal, from_terminal: info.ssi_code == libc::SI_KERNEL })
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Interrupts {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}
