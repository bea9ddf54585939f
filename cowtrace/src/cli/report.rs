//! `cowtrace report`: the report of a recording.

use std::path::PathBuf;

use clap::Args;

use super::{
    Failure, Globals,
    out_file::refuse_same,
    output::{HumanStream, Output, ReportingArgs},
    stacks::StackFileArgs,
};
use crate::recording;

/// Options of `report`.
#[derive(Args, Debug)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    report: ReportingArgs,
    #[command(flatten)]
    stacks: StackFileArgs,
    /// What `cowtrace record` has written
    #[arg(value_name = "FILE")]
    recording: PathBuf,
}

/// Shows what `run` would have shown; nothing is traced.
pub(super) fn run(args: &ReportArgs, globals: Globals) -> Result<u8, Failure> {
    let report = recording::read(&args.recording).map_err(|error| Failure::failed(error.into()))?;
    refuse_same(args.report.output.file().into_iter().chain(args.stacks.names()), &[&args.recording])?;
    if args.stacks.wanted() && report.stacks.is_none() {
        let file = args.recording.display();
        return Err(Failure::failed(anyhow::anyhow!("{file} has no stacks: record with --stacks")));
    }
    let stack_files = args.stacks.open()?;
    let output = Output::open(&args.report.output, HumanStream::Stdout)?;
    output.write_report(&report, &args.report.form(), globals)?;
    stack_files.write(&report)?;
    Ok(0)
}
