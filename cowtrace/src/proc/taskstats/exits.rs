//! Hears of the end of every process on the machine: one message for each thread, read by a thread of its own.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    CMD_GET,
    netlink::Channel,
    processes::{Exited, Processes},
    record::exit_of,
};
use crate::proc::ProcError;

// From linux/taskstats.h.
const ATTR_REGISTER_CPUMASK: u16 = 3;
const ATTR_DEREGISTER_CPUMASK: u16 = 4;
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// Room for messages that are not read yet. One takes some 2.5 kB, of twice this: 50,000 of them.
const BUFFER_BYTES: usize = 64 << 20;
/// Between two looks at whether it is over.
const TICK: Duration = Duration::from_millis(100);

/// Hears of every exit from its creation on.
pub struct ExitListener {
    closing: Arc<AtomicBool>,
    channel: Arc<Channel>,
    cpus: String,
    reader: Option<JoinHandle<io::Result<Exits>>>,
}

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct Exits {
    /// In the order of their ends.
    pub processes: Vec<Exited>,
    /// Messages that found no room, or were not understood: figures of some processes are missing, or too small.
    pub lost: u64,
    /// What was wrong with the first message that was not understood.
    pub problem: Option<String>,
}

impl ExitListener {
    /// Starts to listen, on all CPUs.
    ///
    /// # Errors
    /// The kernel has no taskstats (CONFIG_TASKSTATS), or accepts no listener (CAP_NET_ADMIN).
    pub fn start() -> Result<ExitListener, ProcError> {
        Self::listen(BUFFER_BYTES).map_err(|source| ProcError::TaskStatsListener { source })
    }

    fn listen(buffer_bytes: usize) -> io::Result<ExitListener> {
        let (channel, cpus) = (Arc::new(Channel::open()?), std::fs::read_to_string(POSSIBLE_CPUS)?);
        channel.enlarge(buffer_bytes)?;
        let cpus = format!("{}\0", cpus.trim_end());
        channel.ask(CMD_GET, ATTR_REGISTER_CPUMASK, cpus.as_bytes(), true)?;
        let closing = Arc::<AtomicBool>::default();
        let reader = std::thread::Builder::new().name("taskstats".to_owned()).spawn({
            let (channel, closing) = (channel.clone(), closing.clone());
            move || read(&channel, &closing)
        })?;
        Ok(ExitListener { closing, channel, cpus, reader: Some(reader) })
    }

    /// All processes that have exited since the start. The kernel sends a process's last message before its parent, or
    /// a tracer, can know of its end: nothing needs to be waited for.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn finish(mut self) -> Result<Exits, ProcError> {
        let failed = |source| ProcError::TaskStatsListener { source };
        // Its acknowledgement wakes the reader. Without one the reader looks up soon, and the kernel finds out by itself
        // that nobody listens any more.
        let _ = self.channel.ask(CMD_GET, ATTR_DEREGISTER_CPUMASK, self.cpus.as_bytes(), true);
        self.closing.store(true, Ordering::SeqCst);
        match self.reader.take().map(JoinHandle::join) {
            Some(Ok(exits)) => exits.map_err(failed),
            _ => Err(failed(io::Error::other("the reading thread has panicked"))),
        }
    }
}

impl Drop for ExitListener {
    /// Lets the reader end.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

/// Reads until it is over, and all that had come by then.
fn read(channel: &Channel, closing: &AtomicBool) -> io::Result<Exits> {
    let mut processes = Processes::default();
    let (mut overruns, mut damaged, mut problem) = (0, 0, None);
    loop {
        let over = closing.load(Ordering::SeqCst);
        let received = channel.receive(TICK, |message| match message.and_then(|message| exit_of(&message)) {
            Ok(exit) => processes.extend(exit),
            Err(error) => {
                damaged += 1;
                problem.get_or_insert_with(|| error.to_string());
            }
        });
        match received {
            Ok(()) if over => break,
            Ok(()) => {}
            // The kernel tells this once, however many found no room.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => overruns += 1,
            Err(error) => return Err(error),
        }
    }
    let lost = channel.dropped().unwrap_or(0).max(overruns) + damaged;
    Ok(Exits { processes: processes.finish(), lost, problem })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// As many processes that end at once.
    fn exits(count: usize) -> Vec<u32> {
        let spawn = |_| {
            let mut child = Command::new("true").spawn().unwrap();
            child.wait().unwrap();
            child.id()
        };
        (0..count).map(spawn).collect()
    }

    #[test]
    fn every_exit_is_heard_of() {
        // Only root may listen.
        let Ok(listener) = ExitListener::start() else { return };
        let pids = exits(20);
        let heard = listener.finish().unwrap();
        assert_eq!((heard.lost, heard.problem), (0, None));
        for pid in pids {
            let process = heard.processes.iter().find(|process| process.pid == pid).unwrap();
            assert!(process.minflt > 0 && process.threads == 1, "{process:?}");
            assert_eq!((process.comm.as_str(), process.ppid), ("true", std::process::id()));
        }
    }

    #[test]
    fn messages_that_find_no_room_are_counted() {
        let Ok(channel) = Channel::open() else { return };
        // Of the least size that there is, and read only when all are over.
        if channel.enlarge(1).is_err() {
            return;
        }
        let cpus = format!("{}\0", std::fs::read_to_string(POSSIBLE_CPUS).unwrap().trim_end());
        channel.ask(CMD_GET, ATTR_REGISTER_CPUMASK, cpus.as_bytes(), true).unwrap();
        let pids = exits(20);
        let heard = read(&channel, &AtomicBool::new(true)).unwrap();
        let known = pids.iter().filter(|pid| heard.processes.iter().any(|process| process.pid == **pid));
        let missing = (pids.len() - known.count()) as u64;
        assert!(missing > 0 && heard.lost >= missing, "{missing} missing, {} lost", heard.lost);
    }
}
