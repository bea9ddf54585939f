//! `cargo xtask build`: builds both programs in release mode, also for another architecture, and tells where they are.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    arch::Arch,
    cross::Settings,
    setup::{self, Needs},
    sys,
};

/// Options of `build`.
#[derive(clap::Args)]
pub struct Args {
    /// Build for this target instead of this machine: x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu
    #[arg(long, value_name = "TRIPLE")]
    target: Option<Arch>,
}

/// The two programs.
pub struct Programs {
    /// The tracer.
    pub cowtrace: PathBuf,
    /// The process trees with known page copies.
    pub workload: PathBuf,
}

/// The command.
pub fn command(args: &Args) -> Result<ExitCode> {
    let programs = build_for(args.target, Needs::Build)?;
    eprintln!("built {} and {}", short(&programs.cowtrace), short(&programs.workload));
    Ok(ExitCode::SUCCESS)
}

/// Sets up and builds.
pub fn build(needs: Needs) -> Result<Programs> {
    build_for(None, needs)
}

/// The same for a target, below target/TRIPLE; `None`: for this machine.
pub fn build_for(target: Option<Arch>, needs: Needs) -> Result<Programs> {
    setup::ensure(needs)?;
    let messages = built(cargo(target, &["build", "--release", "--package", "cowtrace", "--bins"])?)?;
    Ok(Programs {
        cowtrace: executable(&messages, "cowtrace")?,
        workload: executable(&messages, "cowtrace-workload")?,
    })
}

/// Builds the live tests for a target, and gives their program; `None`: for this machine.
pub fn live_tests(target: Option<Arch>) -> Result<PathBuf> {
    let mut cargo = cargo(target, &["test", "--no-run", "--package", "cowtrace-tests", "--test", "live"])?;
    if target.is_some() {
        // What they depend on has been built that way for the programs.
        cargo.arg("--release");
    }
    executable(&built(cargo)?, "live")
}

fn cargo(target: Option<Arch>, args: &[&str]) -> Result<Command> {
    let mut cargo = sys::cargo()?;
    cargo.args(args);
    if let Some(arch) = target {
        cargo.args(["--target", arch.target()]);
        Settings::ensure(arch)?.apply(&mut cargo);
    }
    Ok(cargo)
}

/// What cargo tells of what it has built: where it put the programs, whatever CARGO_TARGET_DIR or a configuration say.
fn built(mut cargo: Command) -> Result<String> {
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let line = sys::show_command(&cargo);
    let output = cargo.output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}; its messages are above", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let of_message = |line: &str| -> Option<PathBuf> {
        let message: Value = serde_json::from_str(line).ok()?;
        if message["target"]["name"] != name {
            return None;
        }
        message["executable"].as_str().map(PathBuf::from)
    };
    let found = messages.lines().find_map(of_message);
    found.with_context(|| format!("`cargo build` succeeded, but built no program called {name}"))
}

fn short(path: &Path) -> String {
    let root = sys::workspace_root().ok();
    root.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_the_library_of_the_same_name() {
        let messages = concat!(
            "not json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"cowtrace","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"cowtrace","kind":["bin"]},"executable":"/t/cowtrace"}"#,
        );
        assert_eq!(executable(messages, "cowtrace").ok(), Some(PathBuf::from("/t/cowtrace")));
        assert!(executable(messages, "cowtrace-workload").is_err());
    }
}
