//! The command line, and which module each command is in.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{bench, build, freeze, lab, setup, test, vm};

/// Developer commands of cowtrace; each does first what it needs of the ones before it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the build needs and this machine lacks (a second run changes nothing)
    Setup(setup::Args),
    /// Build target/release/cowtrace and target/release/cowtrace-workload
    Build(build::Args),
    /// Build, then run the lab under the tracer
    Lab(lab::Args),
    /// Build, then run the whole test suite
    Test(test::Args),
    /// Build, then run live tests on Debian's kernels in virtual machines
    Vm(vm::Args),
    /// Keep of a kernel what unit tests need: its types, symbols and tracepoints, as far as cowtrace reads them
    Freeze(freeze::Args),
    /// Build, then measure what tracing costs per copy-on-write fault
    Bench(bench::Args),
}

impl Cli {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode> {
        match &self.command {
            Command::Setup(args) => setup::command(args),
            Command::Build(args) => build::command(args),
            Command::Lab(args) => lab::command(args),
            Command::Test(args) => test::command(args),
            Command::Vm(args) => vm::command(args),
            Command::Freeze(args) => freeze::command(args),
            Command::Bench(args) => bench::command(args),
        }
    }
}
