//! `cargo xtask test`: builds, then runs the whole suite, the tests on the live kernel as root.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Programs},
    setup::Needs,
    sys, vm,
};

/// The package whose tests trace the live kernel.
const LIVE: &str = "cowtrace-tests";

/// Options of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Handed to `cargo test`: a filter, and options
    #[arg(allow_hyphen_values = true, value_name = "ARGS")]
    for_cargo: Vec<String>,
    /// Handed to the test programs
    #[arg(last = true, value_name = "TEST_ARGS")]
    for_tests: Vec<String>,
}

/// The command.
pub fn command(args: &Args) -> Result<ExitCode> {
    let programs = build::build(Needs::Tests)?;
    let Args { for_cargo, for_tests } = args;

    let mut plain = sys::cargo()?;
    plain.args(["test", "--workspace", "--exclude", LIVE]).args(for_cargo).arg("--").args(for_tests);

    let mut live = sys::cargo()?;
    live.args(["test", "--package", LIVE]).args(for_cargo);
    live.env("COWTRACE_BIN", &programs.cowtrace).env("COWTRACE_WORKLOAD", &programs.workload);
    if !sys::is_root() {
        live.args(["--config", &sudo_runner(&programs)?]);
    }
    // One at a time: each of them traces and loads the machine, and would be in the others' numbers.
    live.args(["--", "--test-threads=1"]).args(for_tests);

    // All run whatever the first one finds, so that one run tells everything.
    let mut failed = Vec::new();
    for (what, mut command) in [("the unit tests", plain), ("the live tests", live)] {
        if !sys::status(&mut command)?.success() {
            failed.push(what);
        }
    }
    // Whoever asks for some tests only means those of this kernel.
    if for_cargo.is_empty()
        && for_tests.is_empty()
        && let Err(error) = vm::command(&vm::Args::for_tests())
    {
        eprintln!("xtask: {error:#}");
        failed.push("the tests on other kernels");
    }
    if !failed.is_empty() {
        bail!("{} failed; cargo test's messages are above", failed.join(" and "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Cargo's configuration by which the test programs, and nothing else, run as root.
fn sudo_runner(programs: &Programs) -> Result<String> {
    // Asked for before anything is built, and with the message that tells what to do where there is no sudo.
    sys::as_root(&["cargo", "xtask", "test"])?;
    let version = sys::output(Command::new("rustc").arg("-vV"))?;
    let host = host(&version).context("`rustc -vV` names no host")?;
    // `env`, because sudo itself sets PATH anew and may drop the rest.
    let path = std::env::var("PATH").context("PATH is not set, or not UTF-8")?;
    let words = [
        "sudo".to_owned(),
        "-E".to_owned(),
        "env".to_owned(),
        format!("PATH={path}"),
        format!("COWTRACE_BIN={}", programs.cowtrace.display()),
        format!("COWTRACE_WORKLOAD={}", programs.workload.display()),
    ];
    // JSON's strings are TOML's as well.
    Ok(format!("target.{host}.runner={}", serde_json::to_string(&words)?))
}

fn host(verbose_version: &str) -> Option<&str> {
    verbose_version.lines().find_map(|line| line.strip_prefix("host: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_read_from_rustc() {
        assert_eq!(host("binary: rustc\nhost: x86_64-unknown-linux-gnu\n"), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(host("binary: rustc\n"), None);
    }
}
