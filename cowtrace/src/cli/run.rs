//! `cowtrace run`: trace a command and all its descendants.

use clap::Args;

use super::{Failure, Globals, output::HumanStream, reported::ReportedArgs, subject::CommandArgs};

/// Options of `run`.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    reported: ReportedArgs,
    #[command(flatten)]
    command: CommandArgs,
}

/// Runs the command; the result is its exit status.
pub(super) fn run(args: &RunArgs, globals: Globals) -> Result<u8, Failure> {
    let command = &args.command;
    args.reported.trace(globals, HumanStream::Stderr, command.follow(), |options, output| {
        command.begin(options, output)
    })
}
