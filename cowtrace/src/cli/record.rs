//! `cowtrace record`: trace like `run` or `attach`, and keep everything in a file while it goes on.

use std::path::PathBuf;

use clap::Args;

use super::{
    Failure, Globals,
    output::{Format, HumanStream, Output, OutputArgs, TopArgs},
    subject::SubjectArgs,
    tracer::{EndedArgs, TracingArgs, block_on, prepare},
};
use crate::{
    collect::{Finished, Session, SessionOptions},
    export,
    model::Snapshot,
    recording::{Place, Recorder},
};

/// Options of `record`.
#[derive(Args, Debug)]
pub(super) struct RecordArgs {
    /// Write the recording to FILE
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace FILE if it exists and is a recording, once the session has begun
    #[arg(long)]
    force: bool,
    /// How the report at the end is written: for people, or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    top: TopArgs,
    /// Keep which code made the copies: count them by user stack
    #[arg(long)]
    stacks: bool,
    #[command(flatten)]
    ended: EndedArgs,
    #[command(flatten)]
    tracing: TracingArgs,
    #[command(flatten)]
    subject: SubjectArgs,
}

/// Traces; the result is the command's exit status, if there is one and everything was recorded.
pub(super) fn run(args: &RecordArgs, globals: Globals) -> Result<u8, Failure> {
    let output = OutputArgs { format: args.format, output: None };
    let output = Output::open(&output, HumanStream::Stderr)?;
    let place = Place::create(&args.output, args.force)?;
    let Recorded { finished, recorder, unrecorded } = trace(args, globals, &output, place)?;
    let report = &finished.report;
    let whole = Snapshot { report: report.clone(), numbers: finished.numbers.clone() };
    // The recording first: the report can be had again.
    let recorded = match unrecorded {
        Some(failure) => Err(failure),
        None => recorder.finish(whole).map_err(Failure::from),
    };
    let written = output.write_report(report, &args.top.form(args.format), globals);
    let runs_on = if finished.exit_status.is_none() { "; what was traced runs on, untraced" } else { "" };
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
    Ok(finished.status())
}

/// What a recording that failed is still good for.
const KEPT: &str = "what was recorded until then is kept (`cowtrace report` shows it)";

/// A session that is over, with its recording.
struct Recorded {
    finished: Finished,
    recorder: Recorder,
    /// Why the recording is not whole.
    unrecorded: Option<Failure>,
}

fn trace(args: &RecordArgs, globals: Globals, output: &Output, place: Place) -> Result<Recorded, Failure> {
    let interrupts = prepare()?;
    let max_ended = args.ended.most();
    let options = SessionOptions { stacks: args.stacks, max_ended, ..args.tracing.session(globals) };
    block_on(async {
        let session = args.subject.begin(&options, output)?;
        let mut recorder = place.begin()?;
        let mut unrecorded = None;
        let mut each_round = |session: &mut Session| {
            if unrecorded.is_none()
                && let Err(failure) =
                    recorder.round(session.needs_snapshot(), |everything| Ok(session.snapshot(everything)?))
            {
                unrecorded = Some(failure);
                session.end();
            }
        };
        let finished = session.run_with(args.subject.follow(), interrupts, &mut each_round).await?;
        Ok::<_, Failure>(Recorded { finished, recorder, unrecorded })
    })
}
