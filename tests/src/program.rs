//! Programs for the tests that are not the workload's: compiled from C when they are first needed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::run::found;

static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();

/// The compiled `tests/programs`: `COWTRACE_SUBJECTS`, where there is no compiler, or built when first needed.
pub fn program() -> Result<PathBuf> {
    if let Some(built) = env::var_os("COWTRACE_SUBJECTS") {
        return Ok(built.into());
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

/// Next to the test program, in cargo's target directory.
fn build() -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let built = env::current_exe()?.with_file_name("subjects");
    let compiler = found("cc").context("no C compiler (Debian: gcc)")?;
    let output = Command::new(compiler)
        .args(["-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&built)
        .args(["subjects.c", "faults.c", "stacks.c", "pages.c"].map(|name| sources.join(name)))
        .output()?;
    ensure!(output.status.success(), "{} does not compile: {output:?}", sources.display());
    Ok(built)
}

/// A copy of a program in a directory that every user can reach.
pub fn shared_copy(program: &Path, directory: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program without a name")?;
    let copy = directory.join(name);
    fs::copy(program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(copy)
}
