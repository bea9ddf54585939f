//! `cowtrace attach`: trace what already runs.

use std::time::Duration;

use clap::{ArgGroup, Args};

use super::{
    Failure, Globals,
    forecast::{ForecastArgs, Teller},
    output::{HumanStream, Output, ReportingArgs},
    pages::PageArgs,
    stacks::StackArgs,
    subject::{self, TargetArgs, duration},
    tracer::{LatencyArgs, TracingArgs, block_on, prepare},
};
use crate::collect::{Attach, Session, SessionOptions};

/// Options of `attach`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("whom").required(true).args(TargetArgs::IDS)))]
pub(super) struct AttachArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Report after this time (10s, 5min); else when they have all exited, or at Ctrl-C
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
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
}

/// Attaches, waits, reports.
pub(super) fn run(args: &AttachArgs, globals: Globals) -> Result<u8, Failure> {
    let output = Output::open(&args.report.output, HumanStream::Stdout)?;
    let stack_files = args.stacks.open()?;
    let page_file = args.pages.open()?;
    let interrupts = prepare()?;
    let options = SessionOptions {
        stacks: args.stacks.wanted(),
        forecast: args.forecast.lifetime(),
        pages: args.pages.wanted(),
        latency: args.latency.latency,
        ..args.tracing.session(globals)
    };
    let mut teller = Teller::default();
    let mut each_round = |session: &mut Session| teller.tell(session);
    let attach = Attach { target: args.target.target(), duration: args.duration };
    let finished = block_on(async {
        subject::attach(&attach, &options)?.run_with(true, interrupts, &mut each_round).await
    })?;
    output.write_report(&finished.report, &args.report.form(), globals)?;
    stack_files.write(&finished.report)?;
    page_file.write(&finished.report)?;
    Ok(0)
}
