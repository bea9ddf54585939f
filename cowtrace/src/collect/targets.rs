//! Whom to trace of those who run already.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use crate::proc::{Running, cgroup_folder, in_cgroup, thread_group};

/// Whom to trace; their descendants as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Processes with these ids.
    Pids(Vec<u32>),
    /// Processes whose command name is this.
    Comm(String),
    /// Processes in this cgroup and those below it.
    Cgroup(PathBuf),
    /// All processes.
    All,
}

/// Why nobody can be traced.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// `/proc` cannot be read.
    #[error("cannot list the processes in /proc: {0}")]
    Proc(#[source] io::Error),
    /// No such process.
    #[error("there is no process {0}; `pgrep -a NAME` finds ids, `--comm NAME` traces by name")]
    NoProcess(u32),
    /// A thread, which is not traced by itself.
    #[error("{tid} is no process, but a thread of process {pid} ({comm:?}): trace that with -p {pid}")]
    Thread {
        /// Its id.
        tid: u32,
        /// The process that it belongs to.
        pid: u32,
        /// That one's name.
        comm: String,
    },
    /// It has exited.
    #[error(
        "process {pid} ({comm:?}) has exited, and waits for its parent {ppid}: there is nothing to trace"
    )]
    Zombie {
        /// Its process id.
        pid: u32,
        /// Its name.
        comm: String,
        /// Its parent.
        ppid: u32,
    },
    /// It has no memory of its own.
    #[error("process {pid} ({comm:?}) is a thread of the kernel: it has no memory that could be copied")]
    KernelThread {
        /// Its process id.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// That is this program.
    #[error("process {0} is this cowtrace itself, which does not trace itself")]
    Own(u32),
    /// Nobody has this name.
    #[error("no process has the command name {0:?} (at most 15 characters; see `ps -eo comm`)")]
    NoneNamed(String),
    /// The cgroup cannot be read.
    #[error("cannot read the cgroup {}: {answer}; `cat /proc/PID/cgroup` names a process's; of a controller of version 1, give the folder", folder.display())]
    Cgroup {
        /// Its folder.
        folder: PathBuf,
        /// The kernel's answer.
        answer: io::Error,
    },
    /// Nobody is in it.
    #[error("no process is in the cgroup {}", .0.display())]
    EmptyCgroup(PathBuf),
}

impl Target {
    /// Whom this means, of all that run, with their descendants. Nobody is no error: see [`Target::check`].
    ///
    /// # Errors
    /// The cgroup cannot be read.
    pub(super) fn chosen(&self, all: &[Running]) -> Result<Vec<Running>, TargetError> {
        let named: HashSet<u32> = match self {
            Target::Pids(pids) => pids.iter().copied().collect(),
            Target::Comm(name) => all.iter().filter(|p| p.comm == *name).map(|p| p.pid).collect(),
            Target::Cgroup(name) => cgroup(name)?.into_iter().collect(),
            Target::All => all.iter().map(|p| p.pid).collect(),
        };
        let own = std::process::id();
        let mut chosen = with_descendants(all, named);
        chosen.retain(|process| process.pid != own && !process.is_kernel_thread);
        Ok(chosen)
    }

    /// Whether there is somebody to be traced, and each that is named.
    ///
    /// # Errors
    /// Somebody who is named is not there or cannot be traced, or nobody is meant.
    pub(super) fn check(&self, all: &[Running]) -> Result<(), TargetError> {
        match self {
            Target::Pids(pids) => pids.iter().try_for_each(|&pid| check_one(pid, all)),
            Target::Comm(name) if self.chosen(all)?.is_empty() => Err(TargetError::NoneNamed(name.clone())),
            Target::Cgroup(name) if self.chosen(all)?.is_empty() => {
                Err(TargetError::EmptyCgroup(cgroup_folder(name)))
            }
            _ => Ok(()),
        }
    }

    /// Whether somebody may come to belong here who descends from nobody that does.
    pub(super) fn gets_newcomers(&self) -> bool {
        matches!(self, Target::Comm(_) | Target::Cgroup(_))
    }
}

fn cgroup(name: &Path) -> Result<Vec<u32>, TargetError> {
    let folder = cgroup_folder(name);
    in_cgroup(&folder).map_err(|answer| TargetError::Cgroup { folder, answer })
}

fn check_one(pid: u32, all: &[Running]) -> Result<(), TargetError> {
    if pid == std::process::id() {
        return Err(TargetError::Own(pid));
    }
    let Some(process) = all.iter().find(|process| process.pid == pid) else {
        return Err(match thread_group(pid).and_then(Running::of) {
            Some(Running { pid: process, comm, .. }) if process != pid => {
                TargetError::Thread { tid: pid, pid: process, comm }
            }
            _ => TargetError::NoProcess(pid),
        });
    };
    let comm = process.comm.clone();
    match process {
        Running { is_kernel_thread: true, .. } => Err(TargetError::KernelThread { pid, comm }),
        // The first thread may have exited, and others go on.
        Running { is_zombie: true, ppid, .. } if process.threads().is_empty() => {
            Err(TargetError::Zombie { pid, comm, ppid: *ppid })
        }
        _ => Ok(()),
    }
}

/// These and all who descend from them; parents before their children.
fn with_descendants(all: &[Running], mut named: HashSet<u32>) -> Vec<Running> {
    let mut chosen: Vec<Running> = all.iter().filter(|p| named.contains(&p.pid)).cloned().collect();
    loop {
        let is_new = |p: &&Running| named.contains(&p.ppid) && !named.contains(&p.pid);
        let children: Vec<Running> = all.iter().filter(is_new).cloned().collect();
        if children.is_empty() {
            return chosen;
        }
        named.extend(children.iter().map(|child| child.pid));
        chosen.extend(children);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(pid: u32, ppid: u32, comm: &str) -> Running {
        Running {
            pid,
            ppid,
            comm: comm.to_owned(),
            started_ticks: 1,
            is_kernel_thread: ppid == 2,
            is_zombie: false,
        }
    }

    fn machine() -> Vec<Running> {
        vec![
            running(1_000_001, 0, "init"),
            running(1_000_002, 2, "kswapd0"),
            running(1_000_005, 1_000_001, "redis-server"),
            running(1_000_006, 1_000_007, "worker"),
            running(1_000_007, 1_000_005, "redis-rdb-bgsav"),
        ]
    }

    fn pids(target: &Target) -> Vec<u32> {
        let mut pids: Vec<u32> = target.chosen(&machine()).unwrap().iter().map(|p| p.pid % 1000).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn descendants_belong_to_those_who_are_named() {
        assert_eq!(pids(&Target::Pids(vec![1_000_005])), [5, 6, 7]);
        assert_eq!(pids(&Target::Comm("redis-rdb-bgsav".into())), [6, 7]);
        assert_eq!(pids(&Target::All), [1, 5, 6, 7], "but for threads of the kernel");
        assert_eq!(pids(&Target::Comm("nobody".into())), [] as [u32; 0]);
    }

    #[test]
    fn a_thread_is_told_whose_it_is() {
        let (send, receive) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: no arguments.
            send.send(unsafe { libc::gettid() }.cast_unsigned()).unwrap();
            let _ = wait.recv();
        });
        let (tid, own) = (receive.recv().unwrap(), std::process::id());
        let message = Target::Pids(vec![tid]).check(&Running::all().unwrap()).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{tid} is no process")), "{message}");
        assert!(message.ends_with(&format!("-p {own}")), "{message}");
        drop(done);
        thread.join().unwrap();
    }

    #[test]
    fn who_cannot_be_traced_is_told_why() {
        let refused = |target: Target| target.check(&machine()).unwrap_err().to_string();
        assert!(refused(Target::Pids(vec![1_000_005, 9])).contains("no process 9"));
        assert!(refused(Target::Pids(vec![1_000_002])).contains("thread of the kernel"));
        assert!(refused(Target::Pids(vec![std::process::id()])).contains("itself"));
        assert!(refused(Target::Comm("nobody".into())).contains("\"nobody\""));
        assert!(refused(Target::Cgroup("/no/such".into())).contains("/sys/fs/cgroup/no/such"));
        assert!(Target::Pids(vec![1_000_005]).check(&machine()).is_ok());
    }
}
