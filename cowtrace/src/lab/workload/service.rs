//! Runs a program that knows nothing of the lab, such as a server: its processes are brought to rest by
//! stopping them.

use std::{
    fs,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{
    GLANCE, PATIENCE, Program,
    guard::Guard,
    member::Member,
    stage::{Stage, TICK},
};
use crate::{
    lab::{LabTracer, interruption::Interruption, story::Story},
    ledger,
    proc::{stands_still, threads},
};

/// A running program and its children.
pub(in crate::lab) struct Service {
    stage: Stage,
    buffer: Range<u64>,
    _guard: Guard,
}

impl Service {
    /// Starts a program under this tracer. It has the first of the program's roles, its children have the next
    /// ones as they appear; a role is free again when its process is gone.
    pub(in crate::lab) fn start(
        mut tracer: Box<dyn LabTracer>,
        program: &Program<'_>,
        interruption: Interruption,
    ) -> anyhow::Result<Service> {
        let pid = tracer.spawn(program.path, &program.args, &[])?;
        let mut stage = Stage::new(tracer, interruption, program.roles);
        stage.members[0] = Some(Member::new(pid)?);
        Ok(Service { stage, buffer: 0..0, _guard: Guard::over(pid)? })
    }

    /// Tells the ledger what no event tells of this program.
    pub fn known(&mut self, known: ledger::Known) {
        self.stage.story.known = known;
    }

    /// Process id of this role, while it lives.
    pub fn pid(&self, role: usize) -> Option<u32> {
        Some(self.stage.members.get(role)?.as_ref()?.pid)
    }

    /// Where the program has what the experiment is about; its children have it there, too.
    pub fn buffer(&mut self, addresses: Range<u64>) {
        self.buffer = addresses;
        for member in self.stage.members.iter_mut().flatten() {
            member.buffer = self.buffer.clone();
        }
    }

    /// What must not wait while the program works: to be called every now and then.
    pub fn meanwhile(&mut self) -> anyhow::Result<()> {
        self.stage.meanwhile()?;
        ensure!(!self.is_gone(0)?, "the {} ended by itself", self.stage.name(0));
        Ok(())
    }

    /// Lets the program work for this time.
    pub fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            self.meanwhile()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(TICK));
        }
    }

    /// Stops all processes, reads what they have done and have, and lets them go on.
    pub fn observe(&mut self, name: impl Into<String>) -> anyhow::Result<()> {
        self.rest()?;
        self.stage.observe(name)?;
        for member in self.stage.members.iter().flatten() {
            member.signal(libc::SIGCONT);
        }
        Ok(())
    }

    /// Waits until the program, told to end, has ended, and closes the tracer.
    pub fn finish(mut self) -> anyhow::Result<(Story, Value)> {
        for role in (0..self.stage.members.len()).rev() {
            self.stage.wait_until_gone(role, PATIENCE)?;
        }
        self.stage.finish()
    }

    /// Stops one generation after the other: a stopped process makes no more children.
    fn rest(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut known = 0;
        while known < self.stage.members.iter().flatten().count() {
            known = 0;
            for role in 0..self.stage.members.len() {
                self.stop(role, deadline)?;
                if let Some(member) = &self.stage.members[role] {
                    known += 1;
                    for child in children(member.pid)? {
                        self.adopt(child)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Stops a process, or forgets it if it is gone.
    fn stop(&mut self, role: usize, deadline: Instant) -> anyhow::Result<()> {
        if let Some(member) = &self.stage.members[role] {
            member.signal(libc::SIGSTOP);
        }
        while let Some(member) = &self.stage.members[role] {
            if self.is_gone(role)? {
                self.stage.members[role] = None;
            } else if stands_still(member.pid)? {
                break;
            } else {
                self.stage.check()?;
                ensure!(Instant::now() < deadline, "the {} could not be stopped", self.stage.name(role));
                thread::sleep(GLANCE);
            }
        }
        Ok(())
    }

    fn is_gone(&self, role: usize) -> anyhow::Result<bool> {
        self.stage.members[role].as_ref().map_or(Ok(true), |member| member.wait_until_gone(Duration::ZERO))
    }

    /// Gives a new child a role.
    fn adopt(&mut self, pid: u32) -> anyhow::Result<()> {
        let members = &mut self.stage.members;
        if members.iter().flatten().any(|member| member.pid == pid) {
            return Ok(());
        }
        let member = Member { buffer: self.buffer.clone(), ..Member::new(pid)? };
        if member.wait_until_gone(Duration::ZERO)? {
            return Ok(());
        }
        let free = members.iter_mut().find(|place| place.is_none());
        *free.with_context(|| format!("process {pid} is one more than the program should have"))? =
            Some(member);
        Ok(())
    }
}

/// The processes that it forked and that are not reaped yet.
fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in threads(pid)? {
        let file = format!("{thread}/children");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("cannot read {file} (the kernel needs CONFIG_PROC_CHILDREN)"))?;
        children.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_children_are_found() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(own).unwrap().contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
