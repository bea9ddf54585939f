//! Developer commands of cowtrace: parses the command line and hands over to one module per command.

use std::process::ExitCode;

use clap::Parser as _;

mod apt;
mod arch;
mod archive;
mod bench;
mod build;
mod cli;
mod cross;
mod freeze;
mod lab;
mod setup;
mod sys;
mod test;
mod toolchain;
mod vm;

fn main() -> ExitCode {
    cli::Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
