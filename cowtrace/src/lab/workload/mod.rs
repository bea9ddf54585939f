//! Runs a program of the lab under a tracer, from checkpoint to checkpoint.

mod guard;
mod member;
#[path = "../../bin/cowtrace-workload/protocol.rs"]
mod protocol;
mod service;
mod stage;

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::Read,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags},
    unistd::{pipe2, write},
};
pub(super) use protocol::{LAB_ARGUMENT, VALUES};
use protocol::{RECORD_LEN, Record, SAMPLE, STATUS_FD, control_fd};
use serde_json::Value;
pub(super) use service::Service;

use super::{LabTracer, interruption::Interruption, story::Story};
use crate::{ledger, proc::Snapshot};
use member::{Member, blocked, readable, wait_on};
use stage::{Stage, TICK};

/// For a step of a few milliseconds to a few seconds; on a machine that is busy with other things, too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a process that is about to block.
const GLANCE: Duration = Duration::from_micros(200);

const PROGRAM: &str = "cowtrace-workload";
const PROGRAM_VARIABLE: &str = "COWTRACE_WORKLOAD";

/// The workload's executable: as the environment says, or beside this one.
pub(super) fn find_program() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os(PROGRAM_VARIABLE).map(PathBuf::from) {
        ensure!(path.is_file(), "{PROGRAM_VARIABLE} names {}, which is no file", path.display());
        return Ok(path);
    }
    let own = env::current_exe().context("cannot find out where cowtrace itself is")?;
    let mut beside = own.with_file_name(PROGRAM);
    // Test programs are built one folder below.
    if !beside.is_file() && own.parent().is_some_and(|folder| folder.ends_with("deps")) {
        beside = own.with_file_name("..").join(PROGRAM);
    }
    ensure!(
        beside.is_file(),
        "the lab's workload program is not at {}; build it (`cargo build --bins`), or name it in \
         {PROGRAM_VARIABLE}",
        beside.display()
    );
    Ok(beside)
}

/// What is started.
pub(super) struct Program<'a> {
    /// The executable.
    pub path: &'a Path,
    /// Its arguments; the last one is [`LAB_ARGUMENT`] for a step of the workload.
    pub args: Vec<OsString>,
    /// What its processes are called, by role.
    pub roles: &'static [&'static str],
}

impl<'a> Program<'a> {
    /// A step of the lab's own workload.
    pub fn step(path: &'a Path, step: &str, args: &[String], roles: &'static [&'static str]) -> Program<'a> {
        let words = [step.into()].into_iter().chain(args.iter().map(OsString::from));
        Program { path, args: words.chain([LAB_ARGUMENT.into()]).collect(), roles }
    }
}

/// Both ends: with the reading one kept, a write to a dead process is no SIGPIPE.
struct Control {
    go: OwnedFd,
    wait: OwnedFd,
}

/// A running program.
pub(super) struct Workload {
    stage: Stage,
    status: File,
    controls: Vec<Control>,
    samples: Vec<[u64; VALUES]>,
    patience: Duration,
}

impl Workload {
    /// Starts a program under this tracer, up to its first checkpoint, which is named `start`.
    pub fn start(
        mut tracer: Box<dyn LabTracer>,
        program: &Program<'_>,
        interruption: Interruption,
    ) -> anyhow::Result<Workload> {
        let processes = program.roles.len();
        let pipe = || pipe2(OFlag::O_CLOEXEC).context("cannot create a pipe for the lab's workload");
        let (status, report) = pipe()?;
        let controls = (0..processes)
            .map(|_| pipe().map(|(wait, go)| Control { go, wait }))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut inherit = vec![(report.as_raw_fd(), STATUS_FD)];
        inherit.extend(controls.iter().enumerate().map(|(role, c)| (c.wait.as_raw_fd(), control_fd(role))));
        let pid = tracer.spawn(program.path, &program.args, &inherit)?;
        drop(report);
        let mut stage = Stage::new(tracer, interruption, program.roles);
        stage.members[0] = Some(Member::new(pid)?);
        let (status, samples) = (status.into(), Vec::new());
        let mut workload = Workload { stage, status, controls, samples, patience: PATIENCE };
        workload.wait_for(&[0])?;
        write_back_mapped_files(pid)?;
        workload.stage.observe("start")?;
        Ok(workload)
    }

    /// Tells the ledger what no event tells of these programs.
    pub fn known(&mut self, known: ledger::Known) {
        self.stage.story.known = known;
    }

    /// How long a step may take from here on; 120 s if nothing is said.
    pub fn patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Process id of this role, while it lives.
    pub fn pid(&self, role: usize) -> Option<u32> {
        Some(self.stage.members.get(role)?.as_ref()?.pid)
    }

    /// What was seen so far.
    pub fn story(&self) -> &Story {
        &self.stage.story
    }

    /// What the processes have measured and reported since the last call.
    pub fn take_samples(&mut self) -> Vec<[u64; VALUES]> {
        std::mem::take(&mut self.samples)
    }

    /// Lets the process with this role go on to its next checkpoint, and observes all when each of `arriving`
    /// has arrived at one.
    pub fn go(&mut self, role: usize, arriving: &[usize], name: impl Into<String>) -> anyhow::Result<()> {
        self.release(role)?;
        self.expect(arriving);
        self.wait_for(arriving)?;
        self.stage.observe(name)
    }

    /// Lets these go on to their next checkpoints at the same time, and observes all when each has arrived.
    pub fn go_together(&mut self, roles: &[usize], name: impl Into<String>) -> anyhow::Result<()> {
        self.expect(roles);
        for &role in roles {
            self.release(role)?;
        }
        self.wait_for(roles)?;
        self.stage.observe(name)
    }

    /// Lets the process with this role run to its end, and observes the others when it is gone and each of
    /// `arriving` (its parent, that waited for it) has arrived at a checkpoint.
    pub fn end(&mut self, role: usize, arriving: &[usize], name: impl Into<String>) -> anyhow::Result<()> {
        self.expect(arriving);
        self.release(role)?;
        self.stage.wait_until_gone(role, self.patience)?;
        self.stage.members[role] = None;
        self.wait_for(arriving)?;
        self.stage.observe(name)
    }

    /// Lets all processes run to their end, and closes the tracer.
    pub fn finish(mut self) -> anyhow::Result<(Story, Value)> {
        for role in (0..self.stage.members.len()).rev() {
            if self.stage.members[role].is_some() {
                self.release(role)?;
            }
            self.stage.wait_until_gone(role, self.patience)?;
        }
        self.stage.finish()
    }

    fn release(&self, role: usize) -> anyhow::Result<()> {
        let control = self.controls.get(role).context("no such role")?;
        write(&control.go, &[1])
            .with_context(|| format!("cannot let the {} go on", self.stage.name(role)))?;
        Ok(())
    }

    fn expect(&mut self, arriving: &[usize]) {
        for &role in arriving {
            if let Some(Some(member)) = self.stage.members.get_mut(role) {
                member.checkpoint = None;
            }
        }
    }

    /// Waits until each of these has reported a checkpoint, and all are blocked at theirs.
    fn wait_for(&mut self, roles: &[usize]) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.patience;
        let arrived = |members: &[Option<Member>], role: usize| {
            members.get(role).and_then(Option::as_ref).is_some_and(|member| member.checkpoint.is_some())
        };
        while let Some(&missing) = roles.iter().find(|&&role| !arrived(&self.stage.members, role)) {
            let record = self.next_record(missing, deadline)?;
            self.enter(&record)?;
        }
        for role in 0..self.stage.members.len() {
            self.wait_until_blocked(role, deadline)?;
        }
        Ok(())
    }

    fn enter(&mut self, record: &Record) -> anyhow::Result<()> {
        let role = record.role as usize;
        let member = self.stage.members.get_mut(role).context("a process that the step should not have")?;
        let member = match member {
            Some(member) => member,
            none => none.insert(Member::new(record.pid)?),
        };
        ensure!(
            member.pid == record.pid,
            "the workload is process {} and calls itself {}: run the lab outside of a PID namespace",
            member.pid,
            record.pid
        );
        if record.checkpoint == SAMPLE {
            self.samples.push(record.values);
        } else {
            member.checkpoint = Some(record.checkpoint);
            member.buffer = record.address..record.address.saturating_add(record.size);
        }
        Ok(())
    }

    fn next_record(&mut self, awaited: usize, deadline: Instant) -> anyhow::Result<Record> {
        let who = self.stage.name(awaited);
        loop {
            let handles = self.stage.members.iter().flatten().map(|member| member.handle.as_fd());
            let mut fds: Vec<PollFd<'_>> = std::iter::once(self.status.as_fd())
                .chain(handles)
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            if wait_on(&mut fds, deadline.min(Instant::now() + TICK))? {
                ensure!(
                    readable(&fds[0]),
                    "a process of the workload ended before the {who} reached its checkpoint"
                );
                break;
            }
            self.stage.meanwhile()?;
            let seconds = self.patience.as_secs();
            ensure!(Instant::now() < deadline, "the {who} did not reach its checkpoint within {seconds} s");
        }
        let mut bytes = [0; RECORD_LEN];
        self.status
            .read_exact(&mut bytes)
            .with_context(|| format!("the workload ended before the {who} reached its checkpoint"))?;
        Record::from_bytes(&bytes).context("the workload is of another version; build all programs together")
    }

    /// A process that has reported may still touch its stack, until it sleeps in read(2).
    fn wait_until_blocked(&self, role: usize, deadline: Instant) -> anyhow::Result<()> {
        let Some(member) = &self.stage.members[role] else { return Ok(()) };
        while !blocked(member.pid, control_fd(role))? {
            self.stage.check()?;
            if Instant::now() > deadline {
                bail!("the {} did not come to rest at its checkpoint", self.stage.name(role));
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }
}

/// Writes back what is dirty of the program's files: pages of an executable that was built a moment ago count
/// as private and dirty, though nobody copied them.
fn write_back_mapped_files(pid: u32) -> anyhow::Result<()> {
    for vma in Snapshot::take(pid)?.vmas {
        if vma.cache_private_dirty_kb > 0 && vma.name.starts_with('/') {
            // Where this cannot be done (a file system in memory), the ledger's page_cache column tells them
            // apart.
            let _ = File::open(&vma.name).and_then(|file| file.sync_all());
        }
    }
    Ok(())
}
