//! A traced run: load, start the command, gather until it is over, report.

mod attach;
mod events;
mod wait;

use std::{io, time::Duration};

use anyhow::Context as _;
use cowtrace_abi::{COMM_LEN, ProcSlot, state};
use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use super::{
    collector::{Collector, Ending, Interim, Wanted},
    launch::{Launch, LaunchError},
    pending,
    record::{KernelClock, Record},
    signals::Interrupts,
    stacks::{self, PendingStack},
    targets::TargetError,
};
use crate::{
    model::{
        AddressSpace, Counts, FamilyEvent, Forecast, MapEvent, Report, Snapshot, Stacks, TimeSums,
        TracedFault,
    },
    probe::{Backend, BackendChoice, MappingError, MappingFollower, ProbeError, ProbeOptions, Probes},
};
pub use attach::Attach;
use attach::Following;
pub use wait::Pace;

/// What to trace and how.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Attribute faults to mappings.
    pub regions: bool,
    /// Count copies by the user stack that made them.
    pub stacks: bool,
    /// Count copies page by page, for so many pages at most; needs [`SessionOptions::regions`].
    pub pages: Option<u64>,
    /// Tell of each fault of these kinds, for [`Session::take_events`]: bit n stands for the [`cowtrace_abi::Kind`] n. Faults
    /// are counted by mapping no more.
    pub events: u64,
    /// Measure how long copies take.
    pub latency: bool,
    /// Which hooks.
    pub backend: BackendChoice,
    /// Threads, and processes, that can be traced at the same time.
    pub max_tasks: u32,
    /// Kernel-side diagnostics, in aya-log's levels; 0 is off.
    pub log_level: u8,
    /// Keep every page event, for [`Session::family_events`].
    pub page_log: bool,
    /// Foresee what forks in flight will have copied.
    pub forecast: Option<Lifetime>,
}

/// How long a fork is expected to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the last one of the same parent that lasted a second or more.
    AsBefore,
    /// So long.
    Known(Duration),
}

impl SessionOptions {
    /// Counts and regions, and nothing else.
    pub fn new(backend: BackendChoice, max_tasks: u32) -> SessionOptions {
        SessionOptions {
            regions: true,
            stacks: false,
            pages: None,
            events: 0,
            latency: false,
            backend,
            max_tasks,
            log_level: 0,
            page_log: false,
            forecast: None,
        }
    }

    /// The mappings of all processes, if they are needed.
    fn mappings(&self) -> Result<Option<MappingFollower>, MappingError> {
        self.follows_mappings().then(MappingFollower::open).transpose()
    }

    fn follows_mappings(&self) -> bool {
        self.regions || self.stacks
    }

    fn for_probes(&self) -> ProbeOptions {
        ProbeOptions {
            regions: self.regions && self.events == 0,
            stacks: self.stacks,
            pages: self.pages.is_some(),
            events: self.events,
            latency: self.latency,
            backend: self.backend,
            max_tasks: self.max_tasks,
            log_level: self.log_level,
        }
    }
}

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
        Ok(Finished { report, exit_status: exit, events: self.take_events(), lost_events })
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

    /// What is known so far, while the session goes on undisturbed: of what may have changed since the last call, or of
    /// `everything`. Of each thread the last fault may be missing; a process whose fork has not been read yet is.
    pub fn snapshot(&mut self, everything: bool) -> Result<Snapshot, SessionError> {
        self.drain(false)?;
        let Interim { mut copy, processes, forks } = self.collector.interim(everything);
        let missed = self.probes.missed();
        let slots = self.probes.slots();
        for (_, task) in slots.live_tasks()? {
            let process = slots.process(task.proc_index)?;
            if copy.lives(process.id) {
                copy.take_windows(process.id, &task, None, &self.clock);
            }
        }
        copy.digest(u64::MAX);
        let mut live = slots.live_processes()?;
        live.retain(|slot| copy.lives(slot.id));
        let (shared, end_ns) = (slots.shared()?, monotonic_ns());
        let cpu_ns = cpu_ns() - self.started_cpu_ns;
        let (stacks, times) = (None, Vec::new());
        let ending = Ending {
            complete: false,
            exit_status: None,
            end_ns,
            missed,
            shared,
            live,
            stacks,
            times,
            cpu_ns,
        };
        let mut report = copy.report(&ending, self.probes.backend());
        report.processes.truncate(processes.len());
        Ok(Snapshot { report, processes, forks })
    }

    /// The stacks counted so far, if they are; the last fault of each thread may be missing.
    pub fn stacks(&mut self) -> Result<Option<Stacks>, SessionError> {
        let (copies, _) = stacks::counted(self.probes.stacks(), &[], &self.clock)?;
        Ok(copies.map(|copies| self.collector.stacks(&copies)))
    }

    /// The last forecast of each fork in flight: parent, child, when the fork was (ns since the start), and what is expected.
    pub fn forecasts(&self) -> impl Iterator<Item = (u32, u32, u64, Forecast)> + '_ {
        self.collector.forecasts()
    }

    /// As [`Session::snapshot`], for whoever asks often and keeps nothing: what lives, and what ended since the call before.
    /// Processes have their `regions` with the most copies, the one called `detail` has all. What has ended is forgotten
    /// after the next call, so that the memory of a session that lasts does not grow; the report at the end is without it.
    pub fn glance(&mut self, regions: usize, detail: Option<u32>) -> Result<Report, SessionError> {
        self.drain(false)?;
        let missed = self.probes.missed();
        let slots = self.probes.slots();
        let mut held_back = Vec::new();
        for (_, task) in slots.live_tasks()? {
            if task.windows.iter().any(|window| window.count != 0) {
                held_back.push((slots.process(task.proc_index)?.id, task));
            }
        }
        let live = slots.live_processes()?;
        let (shared, end_ns) = (slots.shared()?, monotonic_ns());
        let cpu_ns = cpu_ns() - self.started_cpu_ns;
        let stacks = None;
        let ending = Ending {
            complete: false,
            exit_status: None,
            end_ns,
            missed,
            shared,
            live,
            stacks,
            times: Vec::new(),
            cpu_ns,
        };
        let wanted = Wanted { regions, detail };
        Ok(self.collector.glance(&ending, self.probes.backend(), &wanted, &held_back, &self.clock))
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
            self.collector.take_windows(process.id, &task, last, &self.clock);
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
