//! `cowtrace doctor`: what this kernel and these privileges allow.

use anyhow::Context as _;
use clap::Args;

use super::{
    Failure, Globals, exit,
    output::{Format, HumanStream, Output, OutputArgs},
};
use crate::{doctor::check_up, export};

/// Options of `doctor`.
#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Looks, and tells all that was found; the status says whether anything can be traced.
pub(super) fn run(args: &DoctorArgs, globals: Globals) -> Result<u8, Failure> {
    let output = Output::open(&args.output, HumanStream::Stdout)?;
    let checkup = check_up();
    let bytes = match args.output.format {
        Format::Json => {
            let mut json = serde_json::to_vec_pretty(&checkup).context("cannot make the JSON")?;
            json.push(b'\n');
            json
        }
        Format::Human => export::doctor(&checkup, &output.style(globals)).into_bytes(),
    };
    output.write(&bytes)?;
    Ok(if checkup.works { 0 } else { exit::NOT_HERE })
}
