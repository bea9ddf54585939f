//! A process with a large buffer starts a program that ends at once: what both did meanwhile.

use std::ops::Range;

use anyhow::Context as _;
use cowtrace_abi::Kind;
use serde_json::Value;

use crate::{
    lab::{
        experiment::Lab,
        story::{Checkpoint, PARENT, Since, Story},
    },
    model::FamilyEvent,
};

/// The parent's buffer.
pub(super) const BUFFER_BYTES: u64 = 64 << 20;

/// Its pages.
pub(super) fn buffer_pages() -> u64 {
    BUFFER_BYTES / procfs::page_size()
}

/// Before, between and after: the checkpoints of the step.
pub(super) const TOUCHED: &str = "touched";
pub(super) const LAUNCHED: &str = "program has ended";
pub(super) const WROTE: &str = "parent wrote";

/// What happened.
pub(super) struct Launch {
    pub story: Story,
    pub report: Value,
    /// Pages of the buffer in which the parent finds what the child wrote before it became the program.
    pub written_by_child: u64,
    child: u32,
}

impl Launch {
    /// Runs this step of the workload.
    pub fn run(lab: &mut Lab<'_>, step: &str) -> anyhow::Result<Launch> {
        let mut workload = lab.start(step, &[buffer_pages().to_string()], &["parent"])?;
        workload.go(PARENT, &[PARENT], TOUCHED)?;
        workload.go(PARENT, &[PARENT], LAUNCHED)?;
        let [child, written_by_child, ..] =
            workload.take_samples().pop().context("the step has not reported its child")?;
        workload.go(PARENT, &[PARENT], WROTE)?;
        let (story, report) = workload.finish()?;
        Ok(Launch { story, report, written_by_child, child: u32::try_from(child)? })
    }

    /// Faults of a kind by the child, before it became the program, anywhere.
    pub fn by_child(&self, kind: Kind) -> Option<u64> {
        self.before_exec(|of| of == kind, None)
    }

    /// Faults of any kind by the child, before it became the program, on addresses.
    pub fn by_child_at(&self, addresses: &Range<u64>) -> Option<u64> {
        self.before_exec(|_| true, Some(addresses))
    }

    /// Faults of a kind by the parent from just before the launch until the program had ended, anywhere.
    pub fn by_parent(&self, kind: Kind) -> Option<u64> {
        Some(self.count(&self.meanwhile()?.events, self.parent()?, |of| of == kind, None))
    }

    /// The same of any kind, on addresses.
    pub fn by_parent_at(&self, addresses: &Range<u64>) -> Option<u64> {
        Some(self.count(&self.meanwhile()?.events, self.parent()?, |_| true, Some(addresses)))
    }

    /// Faults by the parent's write to its buffer afterwards: of this kind, or of any.
    pub fn afterwards(&self, kind: Option<Kind>) -> Option<u64> {
        self.story.faults(PARENT, Some(&self.buffer()?), kind, Since::Checkpoint(LAUNCHED))
    }

    /// Where the parent's buffer is.
    pub fn buffer(&self) -> Option<Range<u64>> {
        Some(self.story.process_at(TOUCHED, PARENT)?.buffer.clone())
    }

    /// The tracer's bill for the only fork.
    pub fn bill(&self) -> Option<&Value> {
        match self.report["forks"].as_array()?.as_slice() {
            [fork] if fork["child"] == self.child => Some(fork),
            _ => None,
        }
    }

    /// Forks in the tracer's report that are of this kind.
    pub fn forks(&self, kind: &str) -> Option<u64> {
        let forks = self.report["forks"].as_array()?;
        Some(forks.iter().filter(|fork| fork["kind"] == kind).count() as u64)
    }

    /// Forks in the tracer's report that copied page tables.
    pub fn forks_with_tables(&self) -> Option<u64> {
        let forks = self.report["forks"].as_array()?;
        Some(forks.iter().filter(|fork| fork["page_table_kb"].as_u64().is_some()).count() as u64)
    }

    /// Forks in the tracer's report that ended when the child became another program.
    pub fn ended_by_exec(&self) -> Option<u64> {
        let forks = self.report["forks"].as_array()?;
        Some(forks.iter().filter(|fork| fork["ended_by"] == "exec").count() as u64)
    }

    fn parent(&self) -> Option<u32> {
        Some(self.story.process_at(TOUCHED, PARENT)?.snapshot.pid)
    }

    fn meanwhile(&self) -> Option<&Checkpoint> {
        self.story.checkpoint(LAUNCHED)
    }

    /// `None` if the child never became a program.
    fn before_exec(&self, is: impl Fn(Kind) -> bool, addresses: Option<&Range<u64>>) -> Option<u64> {
        let events = &self.meanwhile()?.events;
        let exec = events.iter().position(|event| *event == FamilyEvent::Exec { pid: self.child })?;
        Some(self.count(&events[..exec], self.child, is, addresses))
    }

    /// Faults of a process; on addresses, those on different pages.
    fn count(
        &self,
        events: &[FamilyEvent],
        process: u32,
        is: impl Fn(Kind) -> bool,
        addresses: Option<&Range<u64>>,
    ) -> u64 {
        let page_size = procfs::page_size();
        let within = |range: &Range<u64>, pages: &[u64]| {
            pages.iter().filter(|&page| range.contains(&(page * page_size))).count() as u64
        };
        let count = |event: &FamilyEvent| match event {
            FamilyEvent::Pages { pid, kind, pages, faults } if *pid == process && is(*kind) => {
                addresses.map_or(*faults, |range| within(range, pages))
            }
            _ => 0,
        };
        events.iter().map(count).sum()
    }
}
