//! `cowtrace record`: trace a command like `run`, and keep everything in a file while it runs.

use std::{ffi::OsString, os::fd::AsRawFd as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{
    Failure, Globals,
    output::{Format, HumanStream, Output, OutputArgs},
};
use crate::{
    collect::{Finished, Interrupts, Launch, Session, SessionOptions},
    export,
    probe::{BackendChoice, DEFAULT_MAX_TASKS, preflight},
    recording::Recorder,
};

/// Options of `record`.
#[derive(Args, Debug)]
pub(super) struct RecordArgs {
    /// Write the recording to FILE
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
    /// How the report at the end is written: for people, or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
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
    /// Show at most N processes in the report at the end (0: all)
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command; the result is its exit status, if everything was recorded.
pub(super) fn run(args: &RecordArgs, globals: Globals) -> Result<u8, Failure> {
    let output = OutputArgs { format: args.format, output: None };
    let output = Output::open(&output, HumanStream::Stderr)?;
    let mut recorder = Recorder::create(&args.output, args.force)?;
    let mut unrecorded = None;
    let traced = trace(args, globals, &output, &mut recorder, &mut unrecorded);
    let finished = match traced {
        Ok(finished) => finished,
        Err(failure) => {
            recorder.discard();
            return Err(failure);
        }
    };
    let report = &finished.report;
    let bytes = match args.format {
        Format::Json => export::json(report)?,
        Format::Human => export::human(report, &output.style(globals), args.top).into_bytes(),
    };
    // The recording first: the report can be had again.
    let recorded = match unrecorded {
        Some(failure) => Err(failure),
        None => recorder.finish(report).map_err(Failure::from),
    };
    let written = output.write(&bytes);
    let runs_on = if finished.exit_status.is_none() { "; the command runs on, untraced" } else { "" };
    let summary = recorded.map_err(|failure| failure.adding(&format!("{KEPT}{runs_on}")))?;
    tracing::info!(
        "{}: {}, {} snapshots in {:.1?} of CPU time, one each {:?} at the end",
        args.output.display(),
        export::bytes(summary.file_bytes),
        summary.snapshots,
        summary.took,
        summary.interval,
    );
    written?;
    // A command that was left running has no status; the session itself went well.
    Ok(finished.exit_status.and_then(|status| u8::try_from(status).ok()).unwrap_or(0))
}

/// What a recording that failed is still good for.
const KEPT: &str = "what was recorded until then is kept (`cowtrace report` shows it)";

fn trace(
    args: &RecordArgs,
    globals: Globals,
    output: &Output,
    recorder: &mut Recorder,
    unrecorded: &mut Option<Failure>,
) -> Result<Finished, Failure> {
    preflight()?;
    let interrupts = Interrupts::watch().context("cannot watch for signals").map_err(Failure::failed)?;
    let mut launch = Launch { command: args.command.clone(), inherit: Vec::new() };
    if output.is_stdout() {
        // Standard output is the JSON document's alone.
        launch.inherit.push((std::io::stderr().as_raw_fd(), std::io::stdout().as_raw_fd()));
    }
    let options = SessionOptions {
        regions: !args.no_regions,
        stacks: false,
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
            tracing::info!("recording {} as process {root}", super::shell_words(&args.command));
        }
        let mut each_round = |session: &mut Session| {
            if unrecorded.is_none()
                && let Err(failure) =
                    recorder.round(|everything| Ok::<_, Failure>(session.snapshot(everything)?))
            {
                *unrecorded = Some(failure);
                session.end();
            }
        };
        session.run_with(!args.no_follow, interrupts, &mut each_round).await
    })?;
    Ok(finished)
}
