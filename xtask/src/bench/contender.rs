//! The contenders: how each one runs the workload, and what the workload measured meanwhile.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{build::Programs, sys};

/// Counts the faults that cowtrace classifies, as far as one bpftrace line can.
const BPFTRACE: &str =
    "tracepoint:exceptions:page_fault_user /(args->error_code & 7) == 7/ { @[pid] = count(); }";

/// A way to run the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    Untraced,
    NoRegions,
    Regions,
    Stacks,
    Pages,
    Latency,
    Trace,
    PerfStat,
    Bpftrace,
}

impl Contender {
    /// All but the untraced run.
    pub const TRACED: [Self; 8] = [
        Self::NoRegions,
        Self::Regions,
        Self::Stacks,
        Self::Pages,
        Self::Latency,
        Self::Trace,
        Self::PerfStat,
        Self::Bpftrace,
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::NoRegions => "cowtrace run --no-regions",
            Self::Regions => "cowtrace run",
            Self::Stacks => "cowtrace run --stacks",
            Self::Pages => "cowtrace run --pages",
            Self::Latency => "cowtrace run --latency",
            Self::Trace => "cowtrace trace",
            Self::PerfStat => "perf stat -a, one counter",
            Self::Bpftrace => "bpftrace, faults per PID",
        }
    }

    /// Whether it is cowtrace, which has no excuse for not running.
    pub fn is_ours(self) -> bool {
        self.command().is_some()
    }

    /// The command of cowtrace, and the option that makes the difference.
    fn command(self) -> Option<&'static [&'static str]> {
        match self {
            Self::NoRegions => Some(&["run", "--no-regions"]),
            Self::Regions => Some(&["run"]),
            Self::Stacks => Some(&["run", "--stacks"]),
            Self::Pages => Some(&["run", "--pages"]),
            Self::Latency => Some(&["run", "--latency"]),
            Self::Trace => Some(&["trace"]),
            Self::Untraced | Self::PerfStat | Self::Bpftrace => None,
        }
    }
}

/// What every run needs.
pub struct Bench<'a> {
    pub programs: &'a Programs,
    pub pages: u64,
    pub scratch: &'a Path,
}

impl Bench<'_> {
    /// One run; returns the nanoseconds that the writes took.
    pub fn run(&self, contender: Contender) -> Result<f64> {
        let workload =
            [self.programs.workload.clone().into(), "cow-bench".into(), self.pages.to_string().into()];
        let report = self.scratch.join(format!("{contender:?}"));
        let mut argv: Vec<OsString> = Vec::new();
        match contender {
            Contender::PerfStat => {
                argv = with_tracefs("perf")?;
                let event = "exceptions:page_fault_user";
                argv.extend(["stat", "-a", "-e", event, "-o", "/dev/null", "--"].map(Into::into));
            }
            Contender::Bpftrace => {
                argv = with_tracefs("bpftrace")?;
                argv.extend(["-o".into(), report.clone().into(), "-e".into(), BPFTRACE.into(), "-c".into()]);
            }
            _ => {
                if let Some(command) = contender.command() {
                    argv.push(self.programs.cowtrace.clone().into());
                    argv.extend(command.iter().chain(&["--format", "json", "-o"]).map(Into::into));
                    argv.extend([report.clone().into(), "--".into()]);
                }
            }
        }
        if contender == Contender::Bpftrace {
            // It takes the command as one word, and splits that at blanks.
            argv.push(workload.join(" ".as_ref()));
        } else {
            argv.extend(workload);
        }
        // The untraced run too: sudo must not make a difference between the two.
        let measured = measured_ns(&sys::output(&mut sys::as_root(&argv)?)?, self.pages)?;
        if contender.is_ours() {
            self.check(contender, &report)?;
        }
        Ok(measured)
    }

    /// A tracer that misses the copies would win.
    fn check(&self, contender: Contender, report: &Path) -> Result<()> {
        let text = fs::read_to_string(report)
            .with_context(|| format!("there is no report in {}", report.display()))?;
        let counted = if contender == Contender::Trace { told_copies(&text) } else { copies(&text) };
        let counted = counted.context("the report is not the JSON that it should be")?;
        if counted < self.pages {
            bail!("{counted} copies in the report, though the workload made at least {}", self.pages);
        }
        Ok(())
    }
}

/// The start of a command line under which `program` finds its tracepoints.
fn with_tracefs(program: &str) -> Result<Vec<OsString>> {
    let path = sys::find_program(program).with_context(|| format!("there is no {program} here"))?;
    if Path::new("/sys/kernel/tracing/events").exists()
        || Path::new("/sys/kernel/debug/tracing/events").exists()
    {
        return Ok(vec![path.into()]);
    }
    // Mounted in a namespace of its own, so that nothing is left to unmount, even when we are killed.
    let script = r#"mount -t tracefs nodev /sys/kernel/tracing && exec "$@""#;
    let mut argv: Vec<OsString> = ["unshare", "--mount", "--propagation", "private"].map(Into::into).to_vec();
    argv.extend(["sh".into(), "-c".into(), script.into(), "sh".into(), path.into()]);
    Ok(argv)
}

/// The time in the workload's one line of JSON; tracers may print lines of their own around it.
fn measured_ns(stdout: &str, pages: u64) -> Result<f64> {
    let of_line = |line: &str| {
        let value: Value = serde_json::from_str(line.trim()).ok()?;
        (value["pages"].as_u64()? == pages).then(|| value["ns"].as_f64())?
    };
    let ns = stdout.lines().find_map(of_line);
    ns.filter(|ns| *ns > 0.0).with_context(|| format!("no line of the workload's measurement in {stdout:?}"))
}

/// All the copies in a report of cowtrace.
fn copies(report: &str) -> Option<u64> {
    let report: Value = serde_json::from_str(report).ok()?;
    let processes = report["processes"].as_array()?;
    Some(processes.iter().filter_map(|process| process["faults"]["copy"].as_u64()).sum())
}

/// The copies that a trace has told of, in a line of JSON each.
fn told_copies(lines: &str) -> Option<u64> {
    let pages = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        if line["kind"] == "copy" { line["pages"].as_u64() } else { Some(0) }
    });
    pages.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measurement_is_found_among_other_lines() {
        let stdout = "Attaching 1 probe...\n{\"pages\":20000,\"ns\":43210000}\n\n@[7]: 3\n";
        assert_eq!(measured_ns(stdout, 20_000).ok(), Some(43_210_000.0));
        assert!(measured_ns(stdout, 300).is_err());
        assert!(measured_ns("{\"pages\":5,\"ns\":0}", 5).is_err());
        assert!(measured_ns("", 5).is_err());
    }

    #[test]
    fn copies_of_all_processes_are_added() {
        let report =
            r#"{"processes":[{"faults":{"copy":5}},{"faults":{"copy":null}},{"faults":{"copy":2}}]}"#;
        assert_eq!(copies(report), Some(7));
        assert_eq!(copies("{}"), None);
    }

    #[test]
    fn only_copies_that_were_told_count() {
        let lines = "{\"type\":\"fault\",\"kind\":\"copy\",\"pages\":2}\n{\"type\":\"fault\",\"kind\":\"zero\",\"pages\":1}\n\
                     {\"type\":\"lost\",\"events\":7}\n{\"type\":\"fault\",\"kind\":\"copy\",\"pages\":1}\n";
        assert_eq!(told_copies(lines), Some(3));
        assert_eq!(told_copies("begin"), None);
    }
}
