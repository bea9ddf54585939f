//! `cowtrace attach`: trace what already runs.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    Failure, Globals,
    output::{Format, HumanStream, Output, OutputArgs},
    stacks::StackArgs,
};
use crate::{
    collect::{Attach, Interrupts, Session, SessionOptions, Target},
    export,
    probe::{BackendChoice, DEFAULT_MAX_TASKS, preflight},
};

/// Options of `attach`.
#[derive(Args, Debug)]
pub(super) struct AttachArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Report after this time (10s, 5min); else when they have all exited, or at Ctrl-C
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    stacks: StackArgs,
    /// Which kernel hooks to use
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Do not attribute faults to mappings (the cheapest way to count)
    #[arg(long)]
    no_regions: bool,
    /// Follow at most N threads, and N processes, at the same time; more are counted as lost
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_TASKS, value_parser = clap::value_parser!(u32).range(1..))]
    max_tasks: u32,
    /// Show at most N processes (0: all); JSON always has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

/// Whom to trace.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// Processes with these ids, separated by commas or spaces
    #[arg(short, long, value_name = "PID", num_args = 1.., value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// All processes with this command name (at most 15 characters, as `ps -eo comm` shows it)
    #[arg(long, value_name = "NAME", value_parser = command_name)]
    comm: Option<String>,
    /// All processes in this cgroup and those below it: as in /proc/PID/cgroup, or its folder
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// All processes
    #[arg(long)]
    all: bool,
}

impl TargetArgs {
    fn target(&self) -> Target {
        match (&self.comm, &self.cgroup) {
            (Some(comm), _) => Target::Comm(comm.clone()),
            (_, Some(cgroup)) => Target::Cgroup(cgroup.clone()),
            _ if self.all => Target::All,
            _ => Target::Pids(self.pid.clone()),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    // A number alone is seconds, as for sleep(1).
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(Duration::ZERO) => Err("nothing can be traced in no time".to_owned()),
        other => other,
    }
}

fn command_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty".to_owned()),
        1..cowtrace_abi::COMM_LEN => Ok(text.to_owned()),
        _ => Err(format!(
            "the kernel keeps 15 characters of a name; try {:?}",
            text.chars().take(cowtrace_abi::COMM_LEN - 1).collect::<String>()
        )),
    }
}

/// Attaches, waits, reports.
pub(super) fn run(args: &AttachArgs, globals: Globals) -> Result<u8, Failure> {
    let output = Output::open(&args.output, HumanStream::Stdout)?;
    let stack_files = args.stacks.open()?;
    preflight()?;
    let interrupts = Interrupts::watch().context("cannot watch for signals").map_err(Failure::failed)?;
    let options = SessionOptions {
        regions: !args.no_regions,
        stacks: args.stacks.wanted(),
        backend: args.backend,
        max_tasks: args.max_tasks,
        log_level: globals.kernel_log_level(),
        page_log: false,
    };
    let attach = Attach { target: args.target.target(), duration: args.duration };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")
        .map_err(Failure::failed)?;
    let finished = runtime.block_on(async {
        let mut session = Session::attach(&attach, &options)?;
        announce(session.traced()?);
        session.run(true, interrupts).await
    })?;
    let report = &finished.report;
    let bytes = match args.output.format {
        Format::Json => export::json(report)?,
        Format::Human => export::human(report, &output.style(globals), args.top).into_bytes(),
    };
    output.write(&bytes)?;
    stack_files.write(report)?;
    Ok(0)
}

/// Tells that nothing is missed from here on.
fn announce((processes, threads): (u64, u64)) {
    let noun = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let (processes, threads) = (noun(processes, "process", "processes"), noun(threads, "thread", "threads"));
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "cowtrace: attached to {processes} with {threads}; Ctrl-C reports");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        for wrong in ["0", "-1", "soon", "", "1e300"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_as_long_as_the_kernel_keeps_them() {
        assert_eq!(command_name("redis-server"), Ok("redis-server".to_owned()));
        assert!(command_name("a-name-that-is-too-long").unwrap_err().contains("a-name-that-is-"));
        assert!(command_name("").is_err());
    }
}
