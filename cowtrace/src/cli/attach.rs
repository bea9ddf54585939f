//! `cowtrace attach`: trace what already runs.

use clap::{ArgGroup, Args};

use super::{
    Failure, Globals,
    output::HumanStream,
    reported::ReportedArgs,
    subject::{RunningArgs, TargetArgs},
};

/// Options of `attach`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("whom").required(true).args(TargetArgs::IDS)))]
pub(super) struct AttachArgs {
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    reported: ReportedArgs,
}

/// Attaches, waits, reports.
pub(super) fn run(args: &AttachArgs, globals: Globals) -> Result<u8, Failure> {
    args.reported.trace(globals, HumanStream::Stdout, true, |options, _| args.running.begin(options))
}
