//! Debian packages: installs those that are missing, with short progress.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::sys;

/// How long another package manager at work is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(300);

/// A session with apt: the package lists are fetched at most once in it.
#[derive(Default)]
pub struct Apt {
    updated: bool,
}

impl Apt {
    /// Whether this machine installs packages with apt.
    pub fn is_here() -> bool {
        sys::find_program("apt-get").is_some() && sys::find_program("dpkg-query").is_some()
    }

    /// Those of `packages` that are not installed.
    pub fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
        let mut query = Command::new("dpkg-query");
        query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"]).args(packages);
        // A package that dpkg never heard of makes it fail, and is left out of the answer all the same.
        let answer = query.output().context("cannot start `dpkg-query`")?;
        let answer = String::from_utf8_lossy(&answer.stdout);
        Ok(packages.iter().copied().filter(|package| !is_installed(&answer, package)).collect())
    }

    /// Installs those of `packages` that are missing.
    pub fn install(&mut self, packages: &[&str]) -> Result<()> {
        let missing = Self::missing(packages)?;
        if missing.is_empty() {
            return Ok(());
        }
        let timeout = format!("DPkg::Lock::Timeout={}", LOCK_TIMEOUT.as_secs());
        let mut argv = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes"];
        // Never at the price of something that the user has installed: apt refuses, and says what conflicts.
        argv.extend(["-q", "--no-remove", "--no-install-recommends", "-o", &timeout]);
        argv.extend(["-o", "Dpkg::Use-Pty=0"]);
        argv.extend(&missing);
        // First, because without the right to install there is no use in fetching lists.
        let mut install = sys::as_root(&argv)?;
        self.update()?;
        eprintln!("setup: installing {}", missing.join(" "));
        let mut child = install
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", sys::show(&argv)))?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if is_progress(&line) {
                    eprintln!("  {line}");
                }
            }
        }
        let status = child.wait().context("cannot wait for apt-get")?;
        if !status.success() {
            let line = sys::show(&argv);
            bail!("`{line}` failed: {status}; apt's messages are above: solve that, then try again");
        }
        let missing = Self::missing(packages)?;
        if !missing.is_empty() {
            let line = sys::show(&argv);
            bail!("`{line}` succeeded, but dpkg still does not list {} as installed", missing.join(" "));
        }
        Ok(())
    }

    fn update(&mut self) -> Result<()> {
        if self.updated {
            return Ok(());
        }
        eprintln!("setup: fetching package lists");
        let started = Instant::now();
        loop {
            let mut update = sys::as_root(&["apt-get", "update", "-qq"])?;
            let answer = update.stdin(Stdio::null()).output().context("cannot start `apt-get update`")?;
            let said = String::from_utf8_lossy(&answer.stderr);
            if answer.status.success() {
                self.updated = true;
                return Ok(());
            }
            // apt's own waiting covers dpkg's lock, not the one of the package lists.
            if !said.contains("/lists/lock") || started.elapsed() > LOCK_TIMEOUT {
                bail!("`apt-get update` failed: {}: {}", answer.status, said.trim());
            }
            thread::sleep(Duration::from_secs(2));
        }
    }
}

fn is_installed(answer: &str, package: &str) -> bool {
    answer.lines().any(|line| line.split_once(' ') == Some((package, "installed")))
}

fn is_progress(line: &str) -> bool {
    ["Need to get", "Get:", "Fetched", "Setting up"].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_unknown_packages_are_not_installed() {
        let answer = "gcc installed\nbpftrace config-files\n";
        assert!(is_installed(answer, "gcc"));
        assert!(!is_installed(answer, "bpftrace"));
        assert!(!is_installed(answer, "stress-ng"));
    }
}
