//! `cowtrace run`: trace a command and all its descendants.

use clap::Args;

use super::{
    Failure, Globals,
    forecast::{ForecastArgs, Teller},
    output::{HumanStream, Output, ReportingArgs},
    pages::PageArgs,
    stacks::StackArgs,
    subject::CommandArgs,
    tracer::{LatencyArgs, TracingArgs, block_on, prepare},
};
use crate::collect::{Session, SessionOptions};

/// Options of `run`.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    report: ReportingArgs,
    #[command(flatten)]
    stacks: StackArgs,
    #[command(flatten)]
    forecast: ForecastArgs,
    #[command(flatten)]
    pages: PageArgs,
    #[command(flatten)]
    latency: LatencyArgs,
    #[command(flatten)]
    tracing: TracingArgs,
    #[command(flatten)]
    command: CommandArgs,
}

/// Runs the command; the result is its exit status.
pub(super) fn run(args: &RunArgs, globals: Globals) -> Result<u8, Failure> {
    let output = Output::open(&args.report.output, HumanStream::Stderr)?;
    let stack_files = args.stacks.open()?;
    let page_file = args.pages.open()?;
    let interrupts = prepare()?;
    let launch = args.command.launch(&output);
    let options = SessionOptions {
        stacks: args.stacks.wanted(),
        forecast: args.forecast.lifetime(),
        pages: args.pages.wanted(),
        latency: args.latency.latency,
        ..args.tracing.session(globals)
    };
    let mut teller = Teller::default();
    let mut each_round = |session: &mut Session| teller.tell(session);
    let finished = block_on(async {
        let session = Session::start(&launch, &options)?;
        if let Some(root) = session.root() {
            tracing::info!("tracing {} as process {root}", args.command.words());
        }
        session.run_with(args.command.follow(), interrupts, &mut each_round).await
    })?;
    output.write_report(&finished.report, &args.report.form(), globals)?;
    stack_files.write(&finished.report)?;
    page_file.write(&finished.report)?;
    Ok(finished.status())
}
