//! Runs a step of the workload under a tracer, from checkpoint to checkpoint.

#[path = "../bin/cowtrace-workload/protocol.rs"]
mod protocol;

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{pipe2, write},
};
use protocol::{LAB_ARGUMENT, RECORD_LEN, Record, STATUS_FD, control_fd};
use serde_json::Value;

use super::{
    LabTracer,
    story::{Checkpoint, Observed, ROLES, Story},
};
use crate::proc::Snapshot;

/// For a step of a few milliseconds; on a machine that is busy with other things, too.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a killed process may take to be gone.
const LAST_WAIT: Duration = Duration::from_secs(5);
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

/// A process of the step.
struct Member {
    pid: u32,
    /// Not the number, which may come to mean another process.
    handle: OwnedFd,
    /// Number of the checkpoint at which it last reported.
    checkpoint: Option<u32>,
}

/// Both ends: with the reading one kept, a write to a dead process is no SIGPIPE.
struct Control {
    go: OwnedFd,
    wait: OwnedFd,
}

/// A running step.
pub(super) struct Workload {
    tracer: Option<Box<dyn LabTracer>>,
    status: File,
    controls: Vec<Control>,
    members: Vec<Option<Member>>,
    story: Story,
}

impl Workload {
    /// Starts a step under this tracer, up to its first checkpoint, which is named `start`. `processes` is
    /// how many there will be by the end.
    pub fn start(
        mut tracer: Box<dyn LabTracer>,
        program: &Path,
        step: &str,
        processes: usize,
    ) -> anyhow::Result<Workload> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).context("cannot create a pipe for the lab's workload");
        let (status, report) = pipe()?;
        let controls = (0..processes)
            .map(|_| pipe().map(|(wait, go)| Control { go, wait }))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut inherit = vec![(report.as_raw_fd(), STATUS_FD)];
        inherit.extend(controls.iter().enumerate().map(|(role, c)| (c.wait.as_raw_fd(), control_fd(role))));
        let pid = tracer.spawn(program, &[OsString::from(step), LAB_ARGUMENT.into()], &inherit)?;
        drop(report);
        let mut members: Vec<Option<Member>> = (0..processes).map(|_| None).collect();
        members[0] = Some(Member::new(pid)?);
        let mut workload = Workload {
            tracer: Some(tracer),
            status: status.into(),
            controls,
            members,
            story: Story::default(),
        };
        workload.wait_for(&[0])?;
        write_back_mapped_files(pid)?;
        workload.observe("start")?;
        Ok(workload)
    }

    /// Lets the process with this role go on to its next checkpoint, and observes all when each of `arriving`
    /// has arrived at one.
    pub fn go(&mut self, role: usize, arriving: &[usize], name: &'static str) -> anyhow::Result<()> {
        self.release(role)?;
        for &role in arriving {
            if let Some(Some(member)) = self.members.get_mut(role) {
                member.checkpoint = None;
            }
        }
        self.wait_for(arriving)?;
        self.observe(name)
    }

    /// Lets all processes run to their end, and closes the tracer.
    pub fn finish(mut self) -> anyhow::Result<(Story, Value)> {
        for role in (0..self.members.len()).rev() {
            if self.members[role].is_some() {
                self.release(role)?;
            }
            self.wait_until_gone(role)?;
        }
        let tracer = self.tracer.take().context("the tracer is gone")?;
        let report = tracer.finish()?;
        Ok((std::mem::take(&mut self.story), report))
    }

    fn release(&self, role: usize) -> anyhow::Result<()> {
        let control = self.controls.get(role).context("no such role")?;
        write(&control.go, &[1]).with_context(|| format!("cannot let the {} go on", ROLES[role]))?;
        Ok(())
    }

    /// Waits until each of these has reported a checkpoint, and all are blocked at theirs.
    fn wait_for(&mut self, roles: &[usize]) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let arrived = |members: &[Option<Member>], role: usize| {
            members.get(role).and_then(Option::as_ref).is_some_and(|member| member.checkpoint.is_some())
        };
        while let Some(&missing) = roles.iter().find(|&&role| !arrived(&self.members, role)) {
            let record = self.next_record(missing, deadline)?;
            self.enter(record)?;
        }
        for role in 0..self.members.len() {
            self.wait_until_blocked(role, deadline)?;
        }
        Ok(())
    }

    fn enter(&mut self, record: Record) -> anyhow::Result<()> {
        let role = record.role as usize;
        let member = self.members.get_mut(role).context("a process that the step should not have")?;
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
        member.checkpoint = Some(record.checkpoint);
        Ok(())
    }

    fn next_record(&mut self, awaited: usize, deadline: Instant) -> anyhow::Result<Record> {
        let who = ROLES[awaited];
        let handles = self.members.iter().flatten().map(|member| member.handle.as_fd());
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.status.as_fd())
            .chain(handles)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        if !wait_on(&mut fds, deadline)? {
            bail!("the {who} did not reach its checkpoint within {} s", PATIENCE.as_secs());
        }
        if !readable(&fds[0]) {
            bail!("a process of the workload ended before the {who} reached its checkpoint");
        }
        let mut bytes = [0; RECORD_LEN];
        self.status
            .read_exact(&mut bytes)
            .with_context(|| format!("the workload ended before the {who} reached its checkpoint"))?;
        Record::from_bytes(&bytes).context("the workload is of another version; build all programs together")
    }

    /// A process that has reported may still touch its stack, until it sleeps in read(2).
    fn wait_until_blocked(&self, role: usize, deadline: Instant) -> anyhow::Result<()> {
        let Some(member) = &self.members[role] else { return Ok(()) };
        while !blocked(member.pid, control_fd(role))? {
            if Instant::now() > deadline {
                bail!("the {} did not come to rest at its checkpoint", ROLES[role]);
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn observe(&mut self, name: &'static str) -> anyhow::Result<()> {
        let tracer = self.tracer.as_mut().context("the tracer is gone")?;
        let events = tracer.events()?;
        let mut processes = Vec::new();
        for (role, member) in self.members.iter().enumerate() {
            if let Some(member) = member {
                let snapshot = Snapshot::take(member.pid)?;
                processes.push(Observed { role, snapshot, counts: tracer.counts(member.pid)? });
            }
        }
        self.story.checkpoints.push(Checkpoint { name, processes, events });
        Ok(())
    }

    fn wait_until_gone(&self, role: usize) -> anyhow::Result<()> {
        let Some(member) = &self.members[role] else { return Ok(()) };
        if !member.wait_until_gone(PATIENCE)? {
            bail!("the {} did not end within {} s", ROLES[role], PATIENCE.as_secs());
        }
        Ok(())
    }
}

impl Drop for Workload {
    /// Leaves no process behind, whatever went wrong.
    fn drop(&mut self) {
        for member in self.members.iter().flatten() {
            member.kill();
        }
        for member in self.members.iter().flatten() {
            // Nobody is left to be told.
            let _ = member.wait_until_gone(LAST_WAIT);
        }
    }
}

impl Member {
    fn new(pid: u32) -> anyhow::Result<Member> {
        // SAFETY: no pointers; answers with a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return Err(error)
                .with_context(|| format!("cannot open process {pid} (pidfd_open; Linux 5.3 or later)"));
        }
        // SAFETY: a new descriptor that nobody else owns.
        let handle = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) };
        Ok(Member { pid, handle, checkpoint: None })
    }

    fn kill(&self) {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; without siginfo the signal is as from kill(2). Fails if the process
        // is gone.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.handle.as_raw_fd(), libc::SIGKILL, none, 0)
        };
    }

    fn wait_until_gone(&self, patience: Duration) -> anyhow::Result<bool> {
        wait_on(&mut [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)], Instant::now() + patience)
    }
}

fn readable(fd: &PollFd<'_>) -> bool {
    fd.revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
}

/// Whether one of these became readable or was closed before the deadline.
fn wait_on(fds: &mut [PollFd<'_>], deadline: Instant) -> anyhow::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(fds, timeout) {
            Ok(ready) => return Ok(ready > 0),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the lab's workload (poll)"),
        }
    }
}

/// Whether the process sleeps in read(2) on this descriptor.
fn blocked(pid: u32, fd: i32) -> anyhow::Result<bool> {
    match fs::read_to_string(format!("/proc/{pid}/syscall")) {
        // "running", "-1 …" outside of a system call, or its number and arguments.
        Ok(text) => {
            let mut words = text.split_whitespace();
            let number = words.next().and_then(|word| word.parse().ok());
            let first = words.next().and_then(|word| i32::from_str_radix(word.strip_prefix("0x")?, 16).ok());
            Ok(number == Some(libc::SYS_read) && first == Some(fd))
        }
        // A kernel without this file: asleep, and then it can only be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
                .with_context(|| format!("the lab's process {pid} is gone"))?;
            Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot read /proc/{pid}/syscall; run the lab as root"))
        }
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
