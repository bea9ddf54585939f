//! What runs: who it is, its threads, and its mappings, from `/proc`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use procfs::process::{MemoryMap, Process, StatFlags};

use super::smaps;
use crate::model::{Mapping, Perms};

/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Hierarchies below it that have all processes, where version 2 is not alone.
const HIERARCHIES: [&str; 3] = ["", "unified", "systemd"];

/// A process that ran when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub ppid: u32,
    /// Command name.
    pub comm: String,
    /// When it was started, in the kernel's ticks since boot: tells it from another one with the same id.
    pub started_ticks: u64,
    /// A thread of the kernel, without memory of its own.
    pub is_kernel_thread: bool,
    /// It has exited, and waits for its parent.
    pub is_zombie: bool,
}

impl Running {
    /// The process with this id, if there is one.
    pub fn of(pid: u32) -> Option<Running> {
        Self::read(&Process::new(pid.cast_signed()).ok()?)
    }

    /// All processes.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn all() -> io::Result<Vec<Running>> {
        let all = procfs::process::all_processes().map_err(io::Error::other)?;
        Ok(all.filter_map(|process| Self::read(&process.ok()?)).collect())
    }

    fn read(process: &Process) -> Option<Running> {
        let stat = process.stat().ok()?;
        let flags = StatFlags::from_bits_truncate(stat.flags);
        Some(Running {
            pid: stat.pid.cast_unsigned(),
            ppid: stat.ppid.cast_unsigned(),
            comm: stat.comm,
            started_ticks: stat.starttime,
            is_kernel_thread: flags.contains(StatFlags::PF_KTHREAD),
            is_zombie: is_over(stat.state),
        })
    }

    /// Whether it still runs, and is not another one by now.
    pub fn is_there(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started_ticks == self.started_ticks)
    }

    /// Ids of its threads that have not exited.
    pub fn threads(&self) -> Vec<u32> {
        let Ok(process) = Process::new(self.pid.cast_signed()) else { return Vec::new() };
        let Ok(tasks) = process.tasks() else { return Vec::new() };
        let living = tasks.filter_map(|task| {
            let task = task.ok()?;
            (!is_over(task.stat().ok()?.state)).then(|| task.tid.cast_unsigned())
        });
        living.collect()
    }

    /// Its arguments; empty where there are none.
    pub fn cmdline(&self) -> Vec<String> {
        let text = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        arguments(&text)
    }

    /// Its id in its own PID namespace, if that is not the one that `/proc` shows.
    pub fn ns_pid(&self) -> Option<u32> {
        let ids = Process::new(self.pid.cast_signed()).ok()?.status().ok()?.nspid?;
        (ids.len() > 1).then(|| ids.last().map(|id| id.cast_unsigned())).flatten()
    }

    /// Its mappings; none if it is gone.
    pub fn mappings(&self) -> Vec<Mapping> {
        let maps = Process::new(self.pid.cast_signed()).and_then(|process| process.maps());
        maps.map(|maps| maps.iter().filter_map(mapping).collect()).unwrap_or_default()
    }
}

/// The process that a thread belongs to; its own id if it is the process's first.
pub fn thread_group(tid: u32) -> Option<u32> {
    Some(Process::new(tid.cast_signed()).ok()?.status().ok()?.tgid.cast_unsigned())
}

/// Who writes a title over its arguments leaves zeros behind it.
fn arguments(text: &[u8]) -> Vec<String> {
    let end = text.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    text[..end].split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// A zombie, or about to vanish.
fn is_over(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

fn mapping(map: &MemoryMap) -> Option<Mapping> {
    let name = smaps::name(&map.pathname);
    Some(Mapping {
        start: map.address.0,
        end: map.address.1,
        perms: Perms::parse(&smaps::perms(map.perms))?,
        offset: map.offset,
        name: Arc::from(name),
    })
}

/// The folder of a cgroup that is named as in `/proc/PID/cgroup`, or by its folder.
pub fn cgroup_folder(name: &Path) -> PathBuf {
    if name.starts_with(CGROUPS) {
        return name.to_owned();
    }
    let name = name.strip_prefix("/").unwrap_or(name);
    let folders = HIERARCHIES.map(|hierarchy| Path::new(CGROUPS).join(hierarchy).join(name));
    let there = folders.iter().find(|folder| folder.join("cgroup.procs").is_file());
    there.unwrap_or(&folders[0]).clone()
}

/// Ids of the processes in a cgroup and in those below it.
///
/// # Errors
/// The cgroup cannot be read; one below it that vanishes meanwhile is no error.
pub fn in_cgroup(folder: &Path) -> io::Result<Vec<u32>> {
    let listed = fs::read_to_string(folder.join("cgroup.procs"))?;
    let mut pids: Vec<u32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(in_cgroup(&entry.path()).unwrap_or_default());
        }
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_found_with_threads_and_mappings() {
        let own = Running::of(std::process::id()).unwrap();
        assert!(!own.is_kernel_thread && !own.is_zombie && own.is_there());
        assert!(own.threads().contains(&own.pid) || !own.threads().is_empty());
        assert!(!own.cmdline().is_empty());
        assert!(own.mappings().iter().any(|mapping| &*mapping.name == "[stack]"));
        assert!(Running::all().unwrap().iter().any(|process| process.pid == own.pid));
        assert!(!Running { started_ticks: own.started_ticks + 1, ..own }.is_there());
    }

    #[test]
    fn a_title_written_over_the_arguments_is_one_word() {
        assert_eq!(arguments(b"redis-server *:6379\0\0\0\0"), ["redis-server *:6379"]);
        assert_eq!(arguments(b"sleep\0ten\0"), ["sleep", "ten"]);
        assert_eq!(arguments(b"\0\0"), [] as [&str; 0]);
    }

    #[test]
    fn threads_of_the_kernel_are_told_apart() {
        assert!(Running::of(2).is_none_or(|process| process.is_kernel_thread || process.ppid != 0));
    }

    #[test]
    fn cgroups_are_named_in_two_ways() {
        let folder = Path::new("/sys/fs/cgroup/system.slice/redis.service");
        assert_eq!(cgroup_folder(Path::new("/system.slice/redis.service")), folder);
        assert_eq!(cgroup_folder(Path::new("system.slice/redis.service")), folder);
        assert_eq!(cgroup_folder(folder), folder);
    }
}
