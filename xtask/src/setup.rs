//! `cargo xtask setup`: finds out what building and testing need here, and installs what is missing.

use std::process::ExitCode;

use anyhow::Result;

use crate::{apt::Apt, sys, toolchain};

/// A program that is run as it is, and the Debian package that brings it.
struct Tool {
    /// Any of these will do.
    programs: &'static [&'static str],
    package: &'static str,
}

/// What experiments of the lab run. redis-tools has the server's program, under another name: redis-server is only a
/// link to it, together with a system service, which is not to be started.
const LAB_TOOLS: [Tool; 2] = [
    Tool {
        programs: &["redis-server", "valkey-server", "redis-check-rdb", "valkey-check-rdb"],
        package: "redis-tools",
    },
    Tool { programs: &["python3"], package: "python3" },
];

/// What the tests and the benchmark run.
const TEST_TOOLS: [Tool; 5] = [
    Tool { programs: &["stress-ng"], package: "stress-ng" },
    Tool { programs: &["bpftrace"], package: "bpftrace" },
    Tool { programs: &["perf"], package: "linux-perf" },
    Tool { programs: &["cc"], package: "gcc" },
    // Debian's package starts no service.
    Tool { programs: &["gunicorn"], package: "gunicorn" },
];

/// Options of `setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Also install what the tests and the benchmark run
    #[arg(long)]
    tests: bool,
}

/// The command.
pub fn command(args: &Args) -> Result<ExitCode> {
    let needs = if args.tests { Needs::Tests } else { Needs::Lab };
    let toolchain = ensure(needs)?;
    eprintln!("setup: ready ({})", toolchain.summary());
    Ok(ExitCode::SUCCESS)
}

/// How much has to be there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// What builds cowtrace.
    Build,
    /// And what its lab runs.
    Lab,
    /// And what its tests and benchmark run.
    Tests,
}

/// Installs what is missing; silent where nothing is.
pub fn ensure(needs: Needs) -> Result<toolchain::Choice> {
    let lab_tools = missing_tools(&LAB_TOOLS, needs >= Needs::Lab);
    let test_tools = missing_tools(&TEST_TOOLS, needs >= Needs::Tests);
    let mut missing = toolchain::missing()?;
    missing.extend(
        lab_tools
            .iter()
            .chain(&test_tools)
            .map(|tool| format!("{} (Debian: {})", tool.programs[0], tool.package)),
    );
    if !missing.is_empty() {
        eprintln!("setup: missing here:");
        missing.iter().for_each(|item| eprintln!("  - {item}"));
    }
    let mut apt = Apt::default();
    let choice = toolchain::ensure(&mut apt)?;
    choice.record(&sys::workspace_root()?)?;
    // The lab does without, and says so.
    if let Err(error) = install(&mut apt, &lab_tools) {
        eprintln!("setup: {error:#}; the lab goes on without");
    }
    install(&mut apt, &test_tools)?;
    Ok(choice)
}

fn missing_tools(tools: &'static [Tool], needed: bool) -> Vec<&'static Tool> {
    let is_missing = |tool: &&Tool| tool.programs.iter().all(|program| sys::find_program(program).is_none());
    tools.iter().filter(|_| needed).filter(is_missing).collect()
}

fn install(apt: &mut Apt, tools: &[&Tool]) -> Result<()> {
    if tools.is_empty() {
        return Ok(());
    }
    if !Apt::is_here() {
        eprintln!("setup: no apt here to install the tools with; what needs them will say so");
        return Ok(());
    }
    let packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    apt.install(&packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_a_tools_programs_will_do() {
        const TOOLS: [Tool; 2] = [
            Tool { programs: &["no-such-program-anywhere", "sh"], package: "dash" },
            Tool { programs: &["no-such-program-anywhere"], package: "nowhere" },
        ];
        let missing: Vec<_> = missing_tools(&TOOLS, true).iter().map(|tool| tool.package).collect();
        assert_eq!(missing, ["nowhere"]);
        assert!(missing_tools(&TOOLS, false).is_empty());
    }
}
