//! Waiting for the end of a session, while the rings are emptied.

use std::{
    future, io,
    os::fd::{AsFd as _, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::{io::unix::AsyncFd, time::Instant};

use super::{Interrupts, Session, SessionError, Subject, monotonic_ns, waiting};
use crate::{
    probe::StackMaps,
    proc::{ProcessHandle, Status},
};

/// How often the rings are emptied while nothing urgent happens.
const TICK: Duration = Duration::from_millis(50);
/// How often it is looked whether somebody has come who belongs to those that are traced and descends from none of them.
const LOOK: Duration = Duration::from_secs(1);

/// What begins a round of a session besides time and the rings, and whether it ends by itself.
#[derive(Debug, Default)]
pub struct Pace {
    /// A descriptor whose readability begins a round.
    pub wake: Option<OwnedFd>,
    /// Go on when nobody is left that was running before: others may come.
    pub outlive: bool,
}

impl Session {
    /// Gathers until the session is over. The command's exit status, if there is one, and it has exited.
    pub(super) async fn wait_for_end(
        &mut self,
        follow: bool,
        interrupts: Interrupts,
        each_round: &mut dyn FnMut(&mut Session),
    ) -> Result<Option<i32>, SessionError> {
        let mut exited = None;
        if let Some(root) = self.root() {
            let handle = ProcessHandle::open(root.as_raw().unsigned_abs());
            exited = Some(watch(OwnedFd::from(handle.map_err(waiting("watch the command"))?))?);
        }
        let end = self.limit().map(|limit| Instant::now() + limit);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ring =
            self.probes.ring().as_fd().try_clone_to_owned().map_err(waiting("watch the ring buffer"))?;
        let ring = watch(ring)?;
        let mut interrupts = watch(interrupts)?;
        let wake = self.pace.wake.take().map(watch).transpose()?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut status = None;
        let mut interrupted = 0;
        loop {
            tokio::select! {
                biased;
                ready = interrupts.readable_mut() => {
                    let mut ready = ready.map_err(waiting("read a signal"))?;
                    while let Some(interrupt) = ready.get_inner_mut().take() {
                        interrupted += 1;
                        if let (Some(root), None, false) = (self.root(), status, interrupt.from_terminal) {
                            pass_on(root, interrupt.signal);
                        }
                    }
                    ready.clear_ready();
                }
                ready = is_readable(exited.as_ref()), if status.is_none() => {
                    ready.map_err(waiting("watch the command"))?;
                    status = self.reap();
                }
                ready = is_readable(wake.as_ref()) => ready.map_err(waiting("watch the terminal"))?,
                ready = ring.readable() => ready.map_err(waiting("watch the ring buffer"))?.clear_ready(),
                _ = look.tick() => {
                    self.look_for_newcomers()?;
                    self.forget_unreported()?;
                }
                () = until(end) => {}
                _ = tick.tick() => {}
            }
            self.drain(false)?;
            self.note_forks()?;
            self.probes.flush_log();
            each_round(self);
            self.fold_ended()?;
            let alone = self.probes.slots().shared()?.live == 0;
            let over = match &self.subject {
                // A first signal ends the command, and so the session; a second one ends the session at once.
                Subject::Command(_) => {
                    (status.is_some() && (!follow || interrupted > 0 || alone)) || interrupted > 1
                }
                Subject::Running(following) => {
                    let left = alone && !self.pace.outlive && !following.waits_for_newcomers();
                    interrupted > 0 || left || end.is_some_and(|end| Instant::now() >= end)
                }
            };
            if over || self.ended {
                return Ok(status);
            }
        }
    }
}

impl Session {
    /// Makes room: after each round, in which what has ended may have been written down.
    fn fold_ended(&mut self) -> Result<(), SessionError> {
        if self.collector.is_crowded() {
            let with_stacks = self.probes.stacks().map(StackMaps::processes).transpose()?;
            self.collector.fold(monotonic_ns(), &with_stacks.unwrap_or_default());
        }
        Ok(())
    }

    fn note_forks(&mut self) -> Result<(), SessionError> {
        for (place, parent) in self.collector.forks_to_measure() {
            let size = Status::read(parent).map(|status| status.rss_anon_kb * 1024);
            self.collector.set_shared(place, size.ok());
        }
        let now_ns = monotonic_ns();
        if self.collector.forks_are_due(now_ns) {
            let live = self.probes.slots().live_processes()?;
            self.collector.note_forks(now_ns, &live);
        }
        Ok(())
    }
}

/// Comes back when there is something to be read, of a process when it has exited; never if there is no descriptor.
async fn is_readable(source: Option<&AsyncFd<OwnedFd>>) -> io::Result<()> {
    match source {
        Some(source) => source.readable().await.map(|mut ready| ready.clear_ready()),
        None => future::pending().await,
    }
}

/// Comes back at that moment; never if there is none.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => future::pending().await,
    }
}

fn pass_on(pid: Pid, signal: Signal) {
    if let Err(error) = kill(pid, signal) {
        tracing::warn!("cannot send {signal} to the command: {error}");
    }
}

/// The exit status, if the process has exited.
pub(super) fn reap(pid: Pid) -> Option<i32> {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
        _ => None,
    }
}

/// Registers a descriptor with the event loop, which owns it from here on.
fn watch<T: AsRawFd>(source: T) -> Result<AsyncFd<T>, SessionError> {
    // SAFETY: all callers pass owners of a descriptor that they never exchange, so it stays open until it is dropped
    // together with its registration.
    let watched = unsafe { AsyncFd::register(source) };
    watched.map_err(|error| waiting("watch a descriptor")(error.into()))
}
