//! Sessions that trace what runs already: threads are found in `/proc` while they fork and exit, and none is missed.
//!
//! The programs are attached first. From then on whoever is forked by a traced thread is traced, so that it is looked only
//! for threads that are not: until a look finds nobody new.

use std::{collections::HashSet, path::Path, time::Duration};

use cowtrace_abi::{Adoption, COMM_LEN, ProcSlot, adoption};

use super::{Session, SessionError, SessionOptions, Subject, monotonic_ns};
use crate::{
    collect::targets::{Target, TargetError},
    model::{AddressSpace, Mapping},
    probe::Probes,
    proc::Running,
};

/// Looks at one process, or at all, before it is given up that all are found: each needs a fork in the moment before.
const LOOKS: usize = 100;

/// What to attach to.
#[derive(Clone, Debug)]
pub struct Attach {
    /// Whom to trace.
    pub target: Target,
    /// For how long; until they have all exited if not given.
    pub duration: Option<Duration>,
}

impl Attach {
    /// Whether the session lasts its time, whoever is there: somebody may come later.
    pub(super) fn waits_for_newcomers(&self) -> bool {
        self.duration.is_some() && self.target.gets_newcomers()
    }

    fn check(&self) -> Result<(), TargetError> {
        match self.target.check(&everybody()?) {
            Err(TargetError::NoneNamed(_) | TargetError::EmptyCgroup(_)) if self.waits_for_newcomers() => {
                Ok(())
            }
            other => other,
        }
    }
}

/// Who is followed.
pub(super) struct Following {
    attach: Attach,
    /// Ids and starts of those who were met and still run: who found no room is not tried again.
    met: HashSet<(u32, u64)>,
}

impl Following {
    /// As [`Attach::waits_for_newcomers`].
    pub(super) fn waits_for_newcomers(&self) -> bool {
        self.attach.waits_for_newcomers()
    }
}

impl Session {
    /// Loads the programs, and begins to trace who runs already.
    ///
    /// # Errors
    /// Somebody who is named is not there, or the kernel refuses.
    pub fn attach(attach: &Attach, options: &SessionOptions) -> Result<Session, SessionError> {
        attach.check()?;
        let probes = Probes::load(&options.for_probes())?;
        let mappings = options.mappings()?;
        let subject = Subject::Running(Following { attach: attach.clone(), met: HashSet::new() });
        let mut session = Session::over(probes, mappings, subject, monotonic_ns(), options);
        session.look()?;
        Ok(session)
    }

    /// How many processes are traced now, and how many threads.
    ///
    /// # Errors
    /// The slots cannot be read.
    pub fn traced(&mut self) -> Result<(u64, u64), SessionError> {
        let slots = self.probes.slots();
        Ok((slots.shared()?.live, slots.live_tasks()?.len() as u64))
    }

    /// For how long at most the session lasts.
    pub(super) fn limit(&self) -> Option<Duration> {
        match &self.subject {
            Subject::Running(following) => following.attach.duration,
            Subject::Command(_) => None,
        }
    }

    /// Begins to trace those who have come to belong to the traced ones without descending from them.
    pub(super) fn look_for_newcomers(&mut self) -> Result<(), SessionError> {
        match &self.subject {
            Subject::Running(following) if following.attach.target.gets_newcomers() => match self.look() {
                // A cgroup that is gone has no members.
                Err(SessionError::Target(error @ TargetError::Cgroup { .. })) => {
                    tracing::info!("{error}");
                    Ok(())
                }
                other => other,
            },
            _ => Ok(()),
        }
    }

    fn look(&mut self) -> Result<(), SessionError> {
        for _ in 0..LOOKS {
            let Subject::Running(following) = &mut self.subject else { return Ok(()) };
            let all = everybody()?;
            let running: HashSet<(u32, u64)> = all.iter().map(|p| (p.pid, p.started_ticks)).collect();
            following.met.retain(|process| running.contains(process));
            let mut chosen = following.attach.target.chosen(&all)?;
            chosen.retain(|process| following.met.insert((process.pid, process.started_ticks)));
            if chosen.is_empty() {
                break;
            }
            for process in &chosen {
                self.adopt(process)?;
            }
        }
        Ok(())
    }

    /// Begins to trace one process, with all its threads.
    fn adopt(&mut self, process: &Running) -> Result<(), SessionError> {
        let known = |session: &mut Session, tid: u32| session.probes.slots().thread(tid).is_some();
        let threads = process.threads();
        // Forked by a traced one since.
        if threads.is_empty() || threads.iter().any(|&tid| known(self, tid)) {
            return Ok(());
        }
        // Before it is traced: it may exit at once, and take them along. What it maps from here on is told.
        let at_ns = monotonic_ns();
        let mappings = if self.mappings.is_some() { process.mappings() } else { Vec::new() };
        let mut held: Option<u32> = None;
        let mut adopted: Vec<(u32, u32)> = Vec::new();
        for _ in 0..LOOKS {
            let living = if process.is_there() { process.threads() } else { Vec::new() };
            self.forget_gone(&adopted, &living)?;
            let new: Vec<u32> = living.into_iter().filter(|&tid| !known(self, tid)).collect();
            if new.is_empty() {
                break;
            }
            for tid in new {
                held = self.adopt_thread(process, tid, held)?;
                // It found no room, or has exited meanwhile, and was seen to.
                let Some((index, _)) = self.probes.slots().thread(tid) else { break };
                adopted.push((tid, index));
            }
        }
        let Some(proc_index) = held else { return Ok(()) };
        let slot = self.probes.slots().process(proc_index)?;
        self.introduce(process, slot, mappings, at_ns);
        let proc_index = proc_index.into();
        self.probes.adopt(&Adoption { what: adoption::RELEASE, proc_index, ..Adoption::default() })?;
        Ok(())
    }

    /// Begins to trace a thread: the process's first one if none was so far. Gives the index of the process's slot, which is held;
    /// `None` if there was no room.
    fn adopt_thread(
        &mut self,
        process: &Running,
        tid: u32,
        held: Option<u32>,
    ) -> Result<Option<u32>, SessionError> {
        self.probes.adopt(&Adoption {
            what: if held.is_some() { adoption::THREAD } else { adoption::PROCESS },
            tid: tid.into(),
            tgid: process.pid.into(),
            ppid: process.ppid.into(),
            proc_index: held.unwrap_or(0).into(),
            comm: comm(&process.comm),
        })?;
        if held.is_some() {
            return Ok(held);
        }
        let adopted = self.probes.slots().shared()?.adopted_proc;
        Ok(u32::try_from(adopted).ok().filter(|&index| index != 0))
    }

    /// Whoever had exited before he got his slot is not told of by anybody else.
    fn forget_gone(&mut self, adopted: &[(u32, u32)], living: &[u32]) -> Result<(), SessionError> {
        for &(tid, index) in adopted.iter().filter(|(tid, _)| !living.contains(tid)) {
            if self.probes.slots().thread(tid).is_some_and(|(now, _)| now == index) {
                self.probes.adopt(&Adoption {
                    what: adoption::GONE,
                    tid: tid.into(),
                    ..Adoption::default()
                })?;
            }
        }
        Ok(())
    }

    /// Where the kernel has skipped a program's run (it is counted as lost), the exit of a thread may be among them: nobody else
    /// tells of it, and the session would wait for it without end.
    pub(super) fn forget_unreported(&mut self) -> Result<(), SessionError> {
        if self.probes.missed() == 0 {
            return Ok(());
        }
        // A thread exits before it disappears here, so that what is not there, and still has its slot afterwards, was missed.
        let is_there = |tid: u32| Path::new("/proc").join(tid.to_string()).exists();
        let tasks = self.probes.slots().live_tasks()?;
        let gone: Vec<(u32, u32)> = tasks
            .into_iter()
            .map(|(index, task)| (task.tid, index))
            .filter(|&(tid, _)| !is_there(tid))
            .collect();
        self.forget_gone(&gone, &[])
    }

    /// Makes a process known that was not forked before our eyes; at that time it had these mappings.
    fn introduce(&mut self, process: &Running, slot: ProcSlot, mappings: Vec<Mapping>, at_ns: u64) {
        let mut space = AddressSpace::new();
        space.reconcile(&mappings, at_ns);
        self.collector.insert(slot, process.cmdline(), space);
        self.collector.see_code(slot.id, at_ns, mappings);
        self.collector.set_ns_pid(slot.id, process.ns_pid());
    }
}

fn everybody() -> Result<Vec<Running>, TargetError> {
    Running::all().map_err(TargetError::Proc)
}

/// A name as the kernel keeps it, in two words.
fn comm(name: &str) -> [u64; 2] {
    let mut bytes = [0; COMM_LEN];
    let length = name.len().min(COMM_LEN - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    let word = |part: &[u8]| part.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    let words = [word(&bytes[..8]), word(&bytes[8..])];
    if cfg!(target_endian = "big") { words.map(u64::swap_bytes) } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_the_kernel_does() {
        let bytes: Vec<u8> = comm("redis-server").iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes, b"redis-server\0\0\0\0");
        let long: Vec<u8> =
            comm("a-name-that-is-too-long").iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(long, b"a-name-that-is-\0");
    }
}
