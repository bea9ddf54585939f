//! A traced run: load, start the command, gather until it is over, report.

mod attach;
mod events;
mod interim;
mod options;
mod wait;

use std::io;

use anyhow::Context as _;
use cowtrace_abi::{COMM_LEN, ProcSlot, state};
use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use super::{
    collector::{Collector, Ending},
    launch::{Launch, LaunchError},
    pending,
    record::{KernelClock, Record},
    signals::Interrupts,
    stacks::{self, PendingStack},
    targets::TargetError,
};
use crate::{
    model::{AddressSpace, Counts, FamilyEvent, MapEvent, Numbers, Report, TimeSums, TracedFault},
    probe::{Backend, MappingError, MappingFollower, ProbeError, Probes},
};
pub use attach::Attach;
use attach::Following;
pub use options::{DEFAULT_MAX_ENDED, Lifetime, SessionOptions};
pub use wait::Pace;

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The kernel side.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The mappings.
    #[error(transparent)]
    Mappings(#[from] MappingError),
    /// The command.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Who is to be traced.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Waiting failed.
    #[error("cannot {action}: {answer}")]
    Wait {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        answer: io::Error,
    },
}

/// The end of a run.
#[derive(Debug)]
pub struct Finished {
    /// What was found.
    pub report: Report,
    /// The command's exit status, 128+N for signal N; `None` if it was left running.
    pub exit_status: Option<i32>,
    /// Faults that nobody has taken by [`Session::take_events`].
    pub events: Vec<TracedFault>,
    /// Of the report's processes and forks.
    pub numbers: Numbers,
    /// As [`Session::lost_events`] at the end.
    pub lost_events: u64,
}

impl Finished {
    /// The exit status that stands for the command's: 0 for one that was left running, as the session itself went well.
    pub fn status(&self) -> u8 {
        self.exit_status.and_then(|status| u8::try_from(status).ok()).unwrap_or(0)
    }
}

/// The event loop that sessions run in.
///
/// # Errors
/// The kernel's answer.
pub fn event_loop() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.context("cannot start the event loop")
}

/// A session in progress.
pub struct Session {
    probes: Probes,
    mappings: Option<MappingFollower>,
    collector: Collector,
    subject: Subject,
    started_cpu_ns: u64,
    map_events: Vec<MapEvent>,
    /// [`SessionOptions::events`].
    events: u64,
    clock: KernelClock,
    pace: Pace,
    ended: bool,
}

/// Who is traced, besides descendants.
enum Subject {
    /// A command of ours.
    Command(Pid),
    /// What ran before.
    Running(Following),
}

fn waiting(action: &'static str) -> impl FnOnce(io::Error) -> SessionError {
    move |answer| SessionError::Wait { action, answer }
}

/// The clock of the kernel programs (`bpf_ktime_get_ns`) and of the mapping records.
fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(|t| t.num_nanoseconds() as u64).unwrap_or_default()
}

fn cpu_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(|t| t.num_nanoseconds() as u64).unwrap_or_default()
}

impl Session {
    /// Loads the programs, starts the command under them and lets it run.
    pub fn start(launch: &Launch, options: &SessionOptions) -> Result<Session, SessionError> {
        Self::start_under(Probes::load(&options.for_probes())?, launch, options)
    }

    /// The same under programs that [`Session::finish_and_keep`] has kept of a session with the same options.
    pub fn start_under(
        mut probes: Probes,
        launch: &Launch,
        options: &SessionOptions,
    ) -> Result<Session, SessionError> {
        let mappings = options.mappings()?;
        let waiting = launch.start()?;
        let start_ns = monotonic_ns();
        let mut comm = [0; COMM_LEN];
        let name = std::fs::read(format!("/proc/{}/comm", waiting.pid)).unwrap_or_default();
        let name = name.trim_ascii_end();
        let length = name.len().min(COMM_LEN - 1);
        comm[..length].copy_from_slice(&name[..length]);
        let root = ProcSlot {
            id: 1,
            start_ns,
            tgid: waiting.pid,
            ppid: std::process::id(),
            threads: 1,
            comm,
            ..ProcSlot::default()
        };
        probes.slots().adopt(&root)?;
        let subject = Subject::Command(Pid::from_raw(waiting.pid.cast_signed()));
        let mut session = Session::over(probes, mappings, subject, start_ns, options);
        session.collector.insert(root, Vec::new(), AddressSpace::new());
        session.collector.set_command(&launch.command);
        waiting.release()?;
        Ok(session)
    }

    /// A session without processes, which begins at this time.
    fn over(
        probes: Probes,
        mappings: Option<MappingFollower>,
        subject: Subject,
        start_ns: u64,
        options: &SessionOptions,
    ) -> Session {
        let mut collector = Collector::new(start_ns, probes.known_kinds(), options.page_log);
        if options.stacks {
            collector.keep_code();
        }
        if let Some(lifetime) = options.forecast {
            collector.foresee(lifetime);
        }
        if let Some(most) = options.max_ended {
            collector.keep_ended(most);
        }
        if let Some(max_pages) = options.pages {
            collector.count_pages(max_pages);
        }
        if options.events != 0 {
            collector.keep_events(options.regions);
        }
        Session {
            clock: KernelClock::new(&probes.calibration()),
            events: options.events,
            probes,
            mappings,
            collector,
            subject,
            started_cpu_ns: cpu_ns(),
            map_events: Vec::new(),
            pace: Pace::default(),
            ended: false,
        }
    }

    /// Process id of the command, if there is one.
    pub fn root(&self) -> Option<Pid> {
        match self.subject {
            Subject::Command(root) => Some(root),
            Subject::Running(_) => None,
        }
    }

    /// Gathers until the run is over or the user ends it, then reports.
    pub async fn run(self, follow: bool, interrupts: Interrupts) -> Result<Finished, SessionError> {
        self.run_with(follow, interrupts, &mut |_| {}).await
    }

    /// The same, with a call of `each_round` at least every 50 ms while the run goes on.
    pub async fn run_with(
        mut self,
        follow: bool,
        interrupts: Interrupts,
        each_round: &mut dyn FnMut(&mut Session),
    ) -> Result<Finished, SessionError> {
        let exit = self.wait_for_end(follow, interrupts, each_round).await?;
        let report = self.finish(exit)?;
        let lost_events = self.lost_events()?;
        let numbers = self.collector.numbers();
        Ok(Finished { report, exit_status: exit, events: self.take_events(), numbers, lost_events })
    }

    /// Empties the rings into the model. `last`: nothing more will come.
    fn drain(&mut self, last: bool) -> Result<(), SessionError> {
        // What is older than this is in the rings when they are read now; what is younger waits, so that mappings
        // and faults meet in the right order.
        let until_ns = if last { u64::MAX } else { monotonic_ns() };
        while let Some(bytes) = self.probes.ring().next() {
            match Record::parse(&bytes, &self.clock) {
                Some(record) => self.collector.push(record),
                None => self.collector.count_damaged(),
            }
        }
        if let Some(mappings) = &mut self.mappings {
            let stats = mappings.drain(&mut self.map_events);
            self.collector.push_mappings(self.map_events.drain(..), stats.lost);
        }
        self.collector.digest(until_ns);
        Ok(())
    }

    /// Ends the session: detaches, takes in what the kernel still holds, and makes the report.
    pub fn finish(&mut self, exit_status: Option<i32>) -> Result<Report, SessionError> {
        let missed = self.probes.detach();
        self.conclude(exit_status, missed)
    }

    /// The same, but the programs stay attached, for another session. All that were traced must have exited, or be blocked.
    pub fn finish_and_keep(mut self, exit_status: Option<i32>) -> Result<(Report, Probes), SessionError> {
        let missed = self.probes.missed();
        let report = self.conclude(exit_status, missed)?;
        self.probes.renew()?;
        Ok((report, self.probes))
    }

    fn conclude(&mut self, exit_status: Option<i32>, missed: u64) -> Result<Report, SessionError> {
        self.drain(true)?;
        let pending = self.take_held_back(false)?;
        let (stacks, lost_stacks) = stacks::counted(self.probes.stacks(), &pending, &self.clock)?;
        self.probes.flush_log();
        let end_ns = monotonic_ns();
        let mut shared = self.probes.slots().shared()?;
        shared.lost_stacks += lost_stacks;
        let live = self.probes.slots().live_processes()?;
        let times =
            self.probes.live_times()?.iter().map(|(id, times)| (*id, TimeSums::from(times))).collect();
        let cpu_ns = cpu_ns() - self.started_cpu_ns;
        let ending =
            Ending { complete: true, exit_status, end_ns, missed, shared, live, stacks, times, cpu_ns };
        Ok(self.collector.report(&ending, self.probes.backend()))
    }

    /// Sets what else begins a round, and whether the session outlives those it traces.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Ends the session with the present round of [`Session::run_with`]; the command runs on.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Takes what the slots of living threads hold back: faults whose window is not full, and a last fault whose
    /// outcome only its end tells. With `clear`, the slots are emptied, which is allowed only while those threads
    /// cannot fault. Gives the last faults whose stacks are not counted yet.
    fn take_held_back(&mut self, clear: bool) -> Result<Vec<PendingStack>, SessionError> {
        self.take_open_faults()?;
        let backend = self.probes.backend();
        let slots = self.probes.slots();
        let mut pending = Vec::new();
        for (index, mut task) in slots.live_tasks()? {
            let process = slots.process(task.proc_index)?;
            let last = match backend {
                Backend::Tracepoint => {
                    pending::outcome(&task, || pending::mapped_now(process.tgid, task.address))
                }
                Backend::Fentry | Backend::Kprobe => pending::outcome_of_functions(&task),
            };
            self.collector.take_windows(&process, &task, last, &self.clock);
            if let Some(kind) = last.filter(|&kind| self.events >> kind as u8 & 1 != 0) {
                let fault = pending::fault(&task, &process, kind, backend, monotonic_ns());
                self.collector.push(Record::Fault(fault));
            }
            pending.extend(last.and_then(|kind| PendingStack::of(index, &task, &process, kind)));
            if clear {
                task.windows = Default::default();
                task.state = state::NONE;
                slots.set_task(index, &task)?;
            }
        }
        self.collector.digest(u64::MAX);
        Ok(pending)
    }

    /// Takes in what the kernel has reported so far, so that its buffers stay empty while a long command runs.
    pub fn poll(&mut self) -> Result<(), SessionError> {
        self.drain(false)
    }

    /// All page events since the last call, in order. Every traced thread must be blocked.
    pub fn family_events(&mut self) -> Result<Vec<FamilyEvent>, SessionError> {
        self.drain(true)?;
        self.take_held_back(true)?;
        Ok(self.collector.take_family_events())
    }

    /// Ends what [`SessionOptions::page_log`] began.
    pub fn end_page_log(&mut self) {
        self.collector.end_page_log();
    }

    /// Process ids of the traced processes that live.
    pub fn living(&mut self) -> Result<Vec<u32>, SessionError> {
        let slots = self.probes.slots().live_processes()?;
        Ok(slots.iter().filter(|slot| slot.end_ns == 0).map(|slot| slot.tgid).collect())
    }

    /// The command's exit status, if it has exited; it is gone after that.
    pub fn reap(&self) -> Option<i32> {
        self.root().and_then(wait::reap)
    }

    /// Counts so far of a living or finished process.
    pub fn counts(&mut self, pid: u32) -> Result<Counts, SessionError> {
        let live = self.probes.slots().live_processes()?;
        let found = live.iter().rev().find(|slot| slot.tgid == pid).map(|slot| Counts(slot.counts));
        Ok(self.collector.settled_counts(pid, found))
    }
}
