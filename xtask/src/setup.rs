//! `cargo xtask setup`: finds out what building and testing need here, and installs what is missing.

use std::process::ExitCode;

use anyhow::Result;

use crate::{apt::Apt, sys, toolchain};

/// What the tests and the benchmark run, and the Debian package that brings it.
const TEST_TOOLS: [(&str, &str); 4] =
    [("stress-ng", "stress-ng"), ("bpftrace", "bpftrace"), ("perf", "linux-perf"), ("cc", "gcc")];

/// Options of `setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Also install what the tests and the benchmark run
    #[arg(long)]
    tests: bool,
}

/// The command.
pub fn command(args: &Args) -> Result<ExitCode> {
    let needs = if args.tests { Needs::Tests } else { Needs::Build };
    let toolchain = ensure(needs)?;
    eprintln!("setup: ready ({})", toolchain.summary());
    Ok(ExitCode::SUCCESS)
}

/// How much has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// What builds cowtrace.
    Build,
    /// And what its tests and benchmark run.
    Tests,
}

/// Installs what is missing; silent where nothing is.
pub fn ensure(needs: Needs) -> Result<toolchain::Choice> {
    let tools: Vec<_> = TEST_TOOLS
        .into_iter()
        .filter(|(tool, _)| needs == Needs::Tests && sys::find_program(tool).is_none())
        .collect();
    let mut missing = toolchain::missing()?;
    missing.extend(tools.iter().map(|(tool, package)| format!("{tool} (Debian: {package})")));
    if !missing.is_empty() {
        eprintln!("setup: missing here:");
        missing.iter().for_each(|item| eprintln!("  - {item}"));
    }
    let mut apt = Apt::default();
    let choice = toolchain::ensure(&mut apt)?;
    choice.record(&sys::workspace_root()?)?;
    if !tools.is_empty() && Apt::is_here() {
        let packages: Vec<_> = tools.iter().map(|(_, package)| *package).collect();
        apt.install(&packages)?;
    } else if !tools.is_empty() {
        eprintln!("setup: no apt here to install the tools with; what needs them will say so");
    }
    Ok(choice)
}
