//! `cargo xtask build`: builds both programs in release mode and tells where they are.

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    setup::{self, Needs},
    sys,
};

/// The two programs.
pub struct Programs {
    /// The tracer.
    pub cowtrace: PathBuf,
    /// The process trees with known page copies.
    pub workload: PathBuf,
}

/// The command.
pub fn command() -> Result<ExitCode> {
    let programs = build(Needs::Build)?;
    eprintln!("built {} and {}", short(&programs.cowtrace), short(&programs.workload));
    Ok(ExitCode::SUCCESS)
}

/// Sets up and builds.
pub fn build(needs: Needs) -> Result<Programs> {
    setup::ensure(needs)?;
    let messages = built(&["build", "--release", "--package", "cowtrace", "--bins"])?;
    Ok(Programs {
        cowtrace: executable(&messages, "cowtrace")?,
        workload: executable(&messages, "cowtrace-workload")?,
    })
}

/// Builds the live tests, and gives their program.
pub fn live_tests() -> Result<PathBuf> {
    executable(&built(&["test", "--no-run", "--package", "cowtrace-tests", "--test", "live"])?, "live")
}

/// What cargo tells of what it has built: where it put the programs, whatever CARGO_TARGET_DIR or a configuration say.
fn built(args: &[&str]) -> Result<String> {
    let mut cargo = sys::cargo()?;
    cargo.args(args).arg("--message-format=json-render-diagnostics");
    let line = args.join(" ");
    let output =
        cargo.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `cargo {line}`"))?;
    if !output.status.success() {
        bail!("`cargo {line}` failed: {}; its messages are above", output.status);
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
