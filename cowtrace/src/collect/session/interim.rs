//! What is known while a session goes on.

use super::{Session, SessionError, cpu_ns, monotonic_ns};
use crate::{
    collect::{
        collector::{Ending, Interim, Wanted},
        stacks,
    },
    model::{Forecast, Report, Snapshot},
};

impl Session {
    /// What is known so far, while the session goes on undisturbed: of what may have changed since the last call, or of
    /// `everything`. Of each thread the last fault may be missing; a process whose fork has not been read yet is.
    pub fn snapshot(&mut self, everything: bool) -> Result<Snapshot, SessionError> {
        self.drain(false)?;
        let Interim { mut copy, numbers, forks } = self.collector.interim(everything);
        let slots = self.probes.slots();
        for (_, task) in slots.live_tasks()? {
            let process = slots.process(task.proc_index)?;
            if copy.lives(process.id) {
                copy.take_windows(&process, &task, None, &self.clock);
            }
        }
        copy.digest(u64::MAX);
        let mut ending = self.so_far()?;
        ending.live.retain(|slot| copy.lives(slot.id));
        let mut report = copy.report(&ending, self.probes.backend());
        report.processes.truncate(numbers.processes.len());
        // A process that lives may have made them in the time of a fork that has ended long since; all are needed.
        if let (Some(copies), _) = stacks::counted(self.probes.stacks(), &[], &self.clock)? {
            self.collector.add_stacks(&mut report, &copies, &forks);
        }
        Ok(Snapshot { report, numbers })
    }

    /// Whether the next snapshot is not to wait, as all that have ended since the last one are kept until then.
    pub fn needs_snapshot(&self) -> bool {
        self.collector.needs_writing()
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
        let slots = self.probes.slots();
        let mut held_back = Vec::new();
        for (_, task) in slots.live_tasks()? {
            if task.windows.iter().any(|window| window.count != 0) {
                held_back.push((slots.process(task.proc_index)?.id, task));
            }
        }
        let ending = self.so_far()?;
        let wanted = Wanted { regions, detail };
        Ok(self.collector.glance(&ending, self.probes.backend(), &wanted, &held_back, &self.clock))
    }

    /// State of the kernel side, without stacks and times.
    fn so_far(&mut self) -> Result<Ending, SessionError> {
        let missed = self.probes.missed();
        let slots = self.probes.slots();
        Ok(Ending {
            complete: false,
            exit_status: None,
            live: slots.live_processes()?,
            shared: slots.shared()?,
            end_ns: monotonic_ns(),
            missed,
            stacks: None,
            times: Vec::new(),
            cpu_ns: cpu_ns() - self.started_cpu_ns,
        })
    }
}
