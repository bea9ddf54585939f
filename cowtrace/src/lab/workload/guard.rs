//! Ends a service if the lab itself is killed: nothing else would tell the service that nobody needs it.

use std::{
    io::Write as _,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

/// Waits for a line. Without one, at the end of the pipe, the lab is gone: the service's children end, then it does.
const SCRIPT: &str = "read line || kill -KILL $(cat /proc/$0/task/*/children) $0";

/// A process that waits for the lab's end.
pub(super) struct Guard {
    process: Child,
}

impl Guard {
    /// Guards the process with this id.
    pub fn over(pid: u32) -> anyhow::Result<Guard> {
        let process = Command::new("/bin/sh")
            .args(["-c", SCRIPT, &pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start /bin/sh, which is to end the lab's server if the lab is killed")?;
        Ok(Guard { process })
    }
}

impl Drop for Guard {
    /// The service is ended by its owner: nothing is left to guard.
    fn drop(&mut self) {
        if let Some(mut line) = self.process.stdin.take() {
            // Only a guard that was killed does not read it.
            let _ = line.write_all(b"\n");
        }
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_process_ends_with_the_pipe_and_only_so() {
        let sleeper = || Command::new("sleep").arg("60").spawn().unwrap();
        let mut guarded = sleeper();
        drop(Guard::over(guarded.id()).unwrap());
        assert!(guarded.try_wait().unwrap().is_none(), "an orderly end");
        let mut guard = Guard::over(guarded.id()).unwrap();
        // As the kernel closes it when the lab is killed.
        drop(guard.process.stdin.take());
        assert!(!guarded.wait().unwrap().success());
    }
}
