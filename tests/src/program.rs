//! Programs for the tests that are not the workload's: compiled from C when they are first needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::run::{found, scratch};

static BUILT: OnceLock<std::result::Result<TempDir, String>> = OnceLock::new();

/// The compiled `tests/programs/subjects.c`.
pub fn program() -> Result<PathBuf> {
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map(|directory| directory.path().join("subjects")).map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<TempDir> {
    let directory = scratch()?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/subjects.c");
    let compiler = found("cc").context("no C compiler (Debian: gcc)")?;
    let output = Command::new(compiler)
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(directory.path().join("subjects"))
        .arg(&source)
        .output()?;
    ensure!(output.status.success(), "{} does not compile: {output:?}", source.display());
    Ok(directory)
}

/// A copy of a program in a directory that every user can reach.
pub fn shared_copy(program: &Path, directory: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program without a name")?;
    let copy = directory.join(name);
    fs::copy(program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(copy)
}
