//! Brings a family of processes to rest, so that it can be read, and lets it go on, whatever happens.

use std::{
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::proc::{ProcessHandle, stands_still};

/// Between two looks at a process that is about to stop.
const GLANCE: Duration = Duration::from_micros(200);

/// Remembers who is stopped, and says so. At the end of its input without the word, cowtrace is gone, and they are told to
/// go on.
const SCRIPT: &str =
    "stopped=; while read -r pid; do [ $pid = end ] && exit; stopped=\"$stopped $pid\"; echo; done
[ -z \"$stopped\" ] || kill -CONT $stopped";

/// Processes that are stopped. Dropped, they go on.
pub(super) struct Rest {
    stopped: Vec<ProcessHandle>,
    guard: Guard,
}

impl Rest {
    /// Stops all of a family: `living` tells who that is, and is asked again until nobody new turns up. `None` if not
    /// all came to rest in time (a process waits in the kernel for another one that is stopped already, as after a
    /// vfork); then all go on.
    ///
    /// # Errors
    /// `/proc` cannot be read, or the family is not known.
    pub fn of(
        mut living: impl FnMut() -> anyhow::Result<Vec<u32>>,
        patience: Duration,
    ) -> anyhow::Result<Option<Rest>> {
        let deadline = Instant::now() + patience;
        let mut rest = Rest { stopped: Vec::new(), guard: Guard::start()? };
        let mut known: Vec<u32> = Vec::new();
        loop {
            let new: Vec<u32> = living()?.into_iter().filter(|pid| !known.contains(pid)).collect();
            if new.is_empty() {
                return Ok(Some(rest));
            }
            let handles: Vec<ProcessHandle> =
                new.iter().filter_map(|&pid| ProcessHandle::open(pid).ok()).collect();
            // Who lives now has lived when its handle was made: it is nobody who has got its id since.
            let living = living()?;
            for handle in handles.into_iter().filter(|handle| living.contains(&handle.pid())) {
                rest.stop(handle)?;
            }
            for handle in &rest.stopped {
                while !handle.is_gone() && !stands_still(handle.pid())? {
                    if Instant::now() > deadline {
                        return Ok(None);
                    }
                    thread::sleep(GLANCE);
                }
            }
            known.extend(new);
        }
    }

    fn stop(&mut self, handle: ProcessHandle) -> anyhow::Result<()> {
        // Gone meanwhile, or stopped by somebody else, who will let it go on.
        if handle.is_gone() || stands_still(handle.pid())? {
            return Ok(());
        }
        self.guard.remember(handle.pid())?;
        handle.signal(libc::SIGSTOP);
        self.stopped.push(handle);
        Ok(())
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        for handle in &self.stopped {
            handle.signal(libc::SIGCONT);
        }
    }
}

/// A process that outlives cowtrace, should that be killed while others are stopped.
struct Guard(Child);

impl Guard {
    fn start() -> anyhow::Result<Guard> {
        let guard = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is not for it.
            .process_group(0)
            .spawn()
            .context(
                "cannot start /bin/sh, which is to let the command go on if cowtrace is killed meanwhile",
            )?;
        Ok(Guard(guard))
    }

    /// When this is done, the guard stands still as well: it maps a shell and a C library, as the family may, and what it
    /// brings in while they are read would make private pages shared.
    fn remember(&mut self, pid: u32) -> anyhow::Result<()> {
        let unheard = "the guard of stopped processes does not answer";
        let (input, output) = (self.0.stdin.as_mut(), self.0.stdout.as_mut());
        let (input, output) = input.zip(output).context(unheard)?;
        writeln!(input, "{pid}").context(unheard)?;
        output.read_exact(&mut [0]).context(unheard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Everybody goes on by now: nothing is left to guard.
        if let Some(mut input) = self.0.stdin.take() {
            let _ = input.write_all(b"end\n");
        }
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn wait_until(pid: u32, still: bool) {
        let deadline = Instant::now() + SOON;
        while stands_still(pid).unwrap() != still {
            assert!(Instant::now() < deadline, "process {pid} does not come to be so: {still}");
            thread::sleep(GLANCE);
        }
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn all_stand_still_and_go_on() {
        let children = [sleeper(), sleeper()];
        let pids = children.each_ref().map(Child::id);
        // The second one turns up later.
        let mut asked = 0;
        let living = || {
            asked += 1;
            Ok(pids[..if asked > 2 { 2 } else { 1 }].to_vec())
        };
        let rest = Rest::of(living, SOON).unwrap().unwrap();
        assert!(pids.iter().all(|&pid| stands_still(pid).unwrap()));
        drop(rest);
        pids.iter().for_each(|&pid| wait_until(pid, false));
        children.into_iter().for_each(end);
    }

    #[test]
    fn what_somebody_else_has_stopped_stays_so() {
        let child = sleeper();
        let pid = child.id();
        ProcessHandle::open(pid).unwrap().signal(libc::SIGSTOP);
        wait_until(pid, true);
        drop(Rest::of(|| Ok(vec![pid]), SOON).unwrap().unwrap());
        thread::sleep(Duration::from_millis(20));
        assert!(stands_still(pid).unwrap());
        end(child);
    }

    #[test]
    fn without_cowtrace_they_go_on() {
        let child = sleeper();
        let pid = child.id();
        let mut rest = Rest::of(|| Ok(vec![pid]), SOON).unwrap().unwrap();
        // As the kernel does it when cowtrace is killed: nothing is dropped, and the pipe is closed.
        let mut guard =
            std::mem::ManuallyDrop::new(std::mem::replace(&mut rest.guard, Guard::start().unwrap()));
        let stopped = std::mem::take(&mut rest.stopped);
        drop(guard.0.stdin.take());
        guard.0.wait().unwrap();
        wait_until(pid, false);
        drop(stopped);
        end(child);
    }
}
