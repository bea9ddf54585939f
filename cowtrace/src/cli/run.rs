//! `cowtrace run`: trace a command and all its descendants.

use std::{ffi::OsString, os::fd::AsRawFd as _};

use anyhow::Context as _;
use clap::Args;

use super::{
    Failure, Globals,
    output::{Format, HumanStream, Output, OutputArgs},
    stacks::StackArgs,
};
use crate::{
    collect::{Interrupts, Launch, Session, SessionOptions},
    export,
    probe::{BackendChoice, DEFAULT_MAX_TASKS, preflight},
};

/// Options of `run`.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
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
    /// Report when the command exits, even if descendants still run
    #[arg(long)]
    no_follow: bool,
    /// Follow at most N threads, and N processes, at the same time; more are counted as lost
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_TASKS, value_parser = clap::value_parser!(u32).range(1..))]
    max_tasks: u32,
    /// Show at most N processes (0: all); JSON always has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command; the result is its exit status.
pub(super) fn run(args: &RunArgs, globals: Globals) -> Result<u8, Failure> {
    let output = Output::open(&args.output, HumanStream::Stderr)?;
    let stack_files = args.stacks.open()?;
    preflight()?;
    let interrupts = Interrupts::watch().context("cannot watch for signals").map_err(Failure::failed)?;
    let mut launch = Launch { command: args.command.clone(), inherit: Vec::new() };
    if args.output.format == Format::Json && output.is_stdout() {
        // Standard output is the JSON document's alone.
        launch.inherit.push((std::io::stderr().as_raw_fd(), std::io::stdout().as_raw_fd()));
    }
    let options = SessionOptions {
        regions: !args.no_regions,
        stacks: args.stacks.wanted(),
        backend: args.backend,
        max_tasks: args.max_tasks,
        log_level: globals.kernel_log_level(),
        page_log: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")
        .map_err(Failure::failed)?;
    let finished = runtime.block_on(async {
        let session = Session::start(&launch, &options)?;
        if let Some(root) = session.root() {
            tracing::info!("tracing {} as process {root}", super::shell_words(&args.command));
        }
        session.run(!args.no_follow, interrupts).await
    })?;
    let report = &finished.report;
    let bytes = match args.output.format {
        Format::Json => export::json(report)?,
        Format::Human => export::human(report, &output.style(globals), args.top).into_bytes(),
    };
    output.write(&bytes)?;
    stack_files.write(report)?;
    // A command that was left running has no status; the session itself went well.
    Ok(finished.exit_status.and_then(|status| u8::try_from(status).ok()).unwrap_or(0))
}
