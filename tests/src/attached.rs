//! A `cowtrace attach` that has begun.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{finish, scratch, tracer};

const LIMIT: Duration = Duration::from_secs(60);

/// `cowtrace attach`, attached: from here on, nothing is missed.
pub struct Attached {
    tracer: Child,
    place: TempDir,
    said: String,
}

impl Attached {
    /// Attaches with these options; the report is JSON.
    pub fn to(words: &[&str]) -> Result<Attached> {
        let place = scratch()?;
        let mut tracer = tracer("attach")
            .args(words)
            .args(["--format", "json", "-o"])
            .arg(place.path().join("report.json"))
            .process_group(0)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run cowtrace")?;
        let mut said = String::new();
        BufReader::new(tracer.stderr.as_mut().context("no standard error")?).read_line(&mut said)?;
        ensure!(said.contains("attached to"), "not attached: {said}");
        Ok(Attached { tracer, place, said })
    }

    /// What it says it attached to.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) -> Result<()> {
        send(&self.tracer, libc::SIGINT)
    }

    /// Waits for its end, and gives the report.
    pub fn report(self) -> Result<Value> {
        let output = finish(self.tracer, LIMIT)?;
        ensure!(output.status.success(), "{output:?}");
        Ok(serde_json::from_str(&fs::read_to_string(self.place.path().join("report.json"))?)?)
    }
}

/// Sends a signal to a child that is not reaped yet.
pub fn send(child: &Child, signal: libc::c_int) -> Result<()> {
    // SAFETY: plain integers; a child of ours, so that its id is not another's.
    ensure!(unsafe { libc::kill(child.id().cast_signed(), signal) } == 0, "no signal can be sent");
    Ok(())
}
