//! Puts the threads that have exited together to processes.

use std::collections::HashMap;

use super::record::ThreadExit;

/// A process that has exited, its threads taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exited {
    /// Process id.
    pub pid: u32,
    /// Its parent at the end.
    pub ppid: u32,
    /// Name at the end.
    pub comm: String,
    /// Number of threads.
    pub threads: u64,
    /// False if there were other threads, of which this kernel does not tell that they were its own.
    pub whole: bool,
    /// Entries into the write-protect copy path; `None` if this kernel does not have the figure.
    pub wpcopy: Option<u64>,
    /// Solved page faults without I/O.
    pub minflt: u64,
    /// Solved page faults with I/O.
    pub majflt: u64,
    /// From its start to its end, us.
    pub lifetime_us: u64,
}

impl Exited {
    fn new(exit: &ThreadExit) -> Exited {
        let stats = &exit.stats;
        Exited {
            pid: stats.pid.unwrap_or(stats.tid),
            ppid: stats.ppid,
            comm: stats.comm.clone(),
            threads: 1,
            whole: true,
            wpcopy: stats.wpcopy,
            minflt: stats.minflt,
            majflt: stats.majflt,
            lifetime_us: stats.elapsed_us,
        }
    }

    /// Takes in another thread.
    fn add(&mut self, other: &Exited) {
        self.threads += other.threads;
        self.wpcopy = self.wpcopy.zip(other.wpcopy).map(|(one, other)| one + other);
        self.minflt += other.minflt;
        self.majflt += other.majflt;
        self.lifetime_us = self.lifetime_us.max(other.lifetime_us);
    }
}

/// Processes, whole or not.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Those of which a thread has exited, and not the last one.
    open: HashMap<u32, Exited>,
    done: Vec<Exited>,
}

impl Extend<ThreadExit> for Processes {
    /// Takes exits in the order of their messages. A process id that comes again after its process's last thread is
    /// another process.
    fn extend<I: IntoIterator<Item = ThreadExit>>(&mut self, exits: I) {
        for exit in exits {
            self.add(&exit);
        }
    }
}

impl Processes {
    fn add(&mut self, exit: &ThreadExit) {
        let mut process = Exited::new(exit);
        if exit.stats.pid.is_none() {
            // Each thread is taken for a process: the first one has its process's id. Others are in nobody's way.
            self.done.push(process);
            if let Some(pid) = exit.whole_process {
                self.not_whole(pid);
            }
            return;
        }
        if let Some(before) = self.open.remove(&process.pid) {
            process.add(&before);
        }
        if exit.stats.last_of_process {
            self.done.push(process);
        } else {
            self.open.insert(process.pid, process);
        }
    }

    /// The process with this id had more threads than its first one.
    fn not_whole(&mut self, pid: u32) {
        if let Some(process) = self.done.iter_mut().rev().find(|process| process.pid == pid) {
            process.whole = false;
        }
    }

    /// Those that have exited, in the order of their ends.
    pub fn finish(mut self) -> Vec<Exited> {
        // Two threads may end at once, and the message of the last one overtake the other's.
        for (pid, late) in self.open {
            if let Some(process) = self.done.iter_mut().rev().find(|process| process.pid == pid) {
                process.add(&late);
            }
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record::Stats, *};

    fn thread(pid: u32, wpcopy: u64, last_of_process: bool) -> ThreadExit {
        let stats = Stats { pid: Some(pid), wpcopy: Some(wpcopy), last_of_process, ..Stats::default() };
        ThreadExit { stats, whole_process: None }
    }

    #[test]
    fn threads_are_summed_and_a_reused_id_is_another_process() {
        let mut processes = Processes::default();
        processes.extend([
            thread(7, 1, false),
            thread(7, 2, true),
            thread(8, 5, true),
            thread(7, 10, true),
            // Overtaken by the last one's.
            thread(7, 100, false),
            // Still running.
            thread(9, 1, false),
        ]);
        let sums: Vec<_> = processes.finish().iter().map(|p| (p.pid, p.wpcopy, p.threads)).collect();
        assert_eq!(sums, [(7, Some(3), 2), (8, Some(5), 1), (7, Some(110), 2)]);
    }

    #[test]
    fn without_process_ids_the_first_threads_are_known_and_whether_they_were_alone() {
        let old = |tid, whole_process| ThreadExit {
            stats: Stats { tid, minflt: 5, ..Stats::default() },
            whole_process,
        };
        let mut processes = Processes::default();
        processes.extend([old(7, None), old(8, None), old(9, Some(7))]);
        let known: Vec<_> = processes.finish().iter().map(|p| (p.pid, p.minflt, p.whole)).collect();
        assert_eq!(known, [(7, 5, false), (8, 5, true), (9, 5, true)]);
    }
}
