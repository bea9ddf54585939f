//! `cowtrace report`: the report of a recording.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::{
    Failure, Globals,
    output::{Format, HumanStream, Output, OutputArgs},
};
use crate::{export, recording};

/// Options of `report`.
#[derive(Args, Debug)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Show at most N processes (0: all); JSON always has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// What `cowtrace record` has written
    #[arg(value_name = "FILE")]
    recording: PathBuf,
}

/// Shows what `run` would have shown; nothing is traced.
pub(super) fn run(args: &ReportArgs, globals: Globals) -> Result<u8, Failure> {
    // First: its file may be the recording itself, which must not be emptied.
    let report = recording::read(&args.recording).map_err(|error| Failure::failed(error.into()))?;
    super::output::refuse_same(&args.output, &[&args.recording])?;
    let output = Output::open(&args.output, HumanStream::Stdout)?;
    let bytes = match args.output.format {
        Format::Json => export::json(&report).context("cannot make the JSON")?,
        Format::Human => export::human(&report, &output.style(globals), args.top).into_bytes(),
    };
    output.write(&bytes)?;
    Ok(0)
}
