//! What every traced program of the lab has: its tracer, its processes, and the story so far.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::member::Member;
use crate::{
    lab::{
        LabTracer,
        interruption::Interruption,
        story::{Checkpoint, Observed, Story},
    },
    proc::{Snapshot, Status},
};

/// How long a killed process may take to be gone.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at the tracer's buffers and at Ctrl-C, while processes run.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A traced program. Dropped, it leaves no process behind.
pub(super) struct Stage {
    tracer: Option<Box<dyn LabTracer>>,
    interruption: Interruption,
    /// By role; `None` before a process is known and after it is gone.
    pub members: Vec<Option<Member>>,
    pub story: Story,
}

impl Stage {
    pub fn new(
        tracer: Box<dyn LabTracer>,
        interruption: Interruption,
        roles: &'static [&'static str],
    ) -> Stage {
        let members = roles.iter().map(|_| None).collect();
        Stage { tracer: Some(tracer), interruption, members, story: Story { roles, ..Story::default() } }
    }

    fn tracer(&mut self) -> anyhow::Result<&mut Box<dyn LabTracer>> {
        self.tracer.as_mut().context("the tracer is gone")
    }

    /// What a process with this role is called.
    pub fn name(&self, role: usize) -> &'static str {
        self.story.roles.get(role).copied().unwrap_or("process")
    }

    /// An error if the lab was told to stop.
    pub fn check(&self) -> anyhow::Result<()> {
        Ok(self.interruption.check()?)
    }

    /// What must not wait while processes run.
    pub fn meanwhile(&mut self) -> anyhow::Result<()> {
        self.check()?;
        self.tracer()?.poll()
    }

    /// Adds a checkpoint. All processes must stand still.
    pub fn observe(&mut self, name: impl Into<String>) -> anyhow::Result<()> {
        self.check()?;
        let tracer = self.tracer.as_mut().context("the tracer is gone")?;
        let events = tracer.events()?;
        let mut processes = Vec::new();
        for (role, member) in self.members.iter().enumerate() {
            if let Some(member) = member {
                processes.push(Observed {
                    role,
                    snapshot: Snapshot::take(member.pid)?,
                    status: Status::read(member.pid)?,
                    counts: tracer.counts(member.pid)?,
                    buffer: member.buffer.clone(),
                });
            }
        }
        self.story.checkpoints.push(Checkpoint { name: name.into(), processes, events });
        Ok(())
    }

    /// Waits for the end of a process; does not forget it.
    pub fn wait_until_gone(&mut self, role: usize, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let Some(member) = &self.members[role] else { return Ok(()) };
            if member.wait_until_gone(TICK)? {
                return Ok(());
            }
            self.meanwhile()?;
            let seconds = patience.as_secs();
            ensure!(Instant::now() < deadline, "the {} did not end within {seconds} s", self.name(role));
        }
    }

    /// Closes the tracer, when all processes are gone.
    pub fn finish(&mut self) -> anyhow::Result<(Story, Value)> {
        let tracer = self.tracer.take().context("the tracer is gone")?;
        let report = tracer.finish()?;
        Ok((std::mem::take(&mut self.story), report))
    }
}

impl Drop for Stage {
    /// Leaves no process behind, whatever went wrong.
    fn drop(&mut self) {
        for member in self.members.iter().flatten() {
            member.signal(libc::SIGKILL);
        }
        for member in self.members.iter().flatten() {
            // Nobody is left to be told.
            let _ = member.wait_until_gone(LAST_WAIT);
        }
    }
}
