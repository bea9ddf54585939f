//! Builds the eBPF object that cowtrace carries, with the toolchain that `cargo xtask setup` found.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

/// Written by `cargo xtask setup`.
const CHOICE: &str = "../.ebpf-toolchain";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line that cargo shows as its own error, instead of a dump of this script's output.
            println!("cargo::error={}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    // aya-build watches the crate itself; these decide over its dependencies and its profile.
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../Cargo.toml");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let choice = match fs::read_to_string(CHOICE) {
        Ok(choice) => {
            // Only where it exists: cargo takes an absent file for a changed one, and would build each time.
            println!("cargo:rerun-if-changed={CHOICE}");
            choice
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => usual_toolchain()?,
        Err(error) => return Err(error).with_context(|| format!("cannot read {CHOICE}")),
    };
    let value = |key: &str| {
        let mut pairs = choice.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value).filter(|value| !value.is_empty())
    };
    let toolchain =
        value("toolchain").context(".ebpf-toolchain names no toolchain: run `cargo xtask setup`")?;
    if let Some(dir) = value("linker_dir") {
        let linker = Path::new(dir).join("bpf-linker");
        if !linker.exists() {
            bail!("{} is gone: run `cargo xtask setup`", linker.display());
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([PathBuf::from(dir)].into_iter().chain(env::split_paths(&path)))?;
        set_var("PATH", path);
    }
    if let Some(bootstrap) = value("bootstrap") {
        set_var("RUSTC_BOOTSTRAP", bootstrap);
    }
    // Cargo's progress would be told as warnings, and again at each later build; errors still come through.
    set_var("CARGO_TERM_QUIET", "true");
    let probes = Package {
        name: "cowtrace-ebpf",
        root_dir: "../cowtrace-ebpf",
        no_default_features: false,
        features: &["probes"],
    };
    aya_build::build_ebpf([probes], Toolchain::Custom(toolchain)).context(
        "the eBPF object was not built: the messages say why; where the toolchain is at fault, run `cargo xtask setup`",
    )
}

/// The toolchain of most eBPF developers, for those who have it and never ran the set-up.
fn usual_toolchain() -> Result<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()) {
        return Ok("toolchain=nightly\n".to_owned());
    }
    bail!("no toolchain for the eBPF object is set up: run `cargo xtask setup`")
}

/// For aya-build, which takes these settings from the environment only.
fn set_var(name: &str, value: impl AsRef<std::ffi::OsStr>) {
    // SAFETY: a build script is a process of its own, and this one has not started any thread yet.
    unsafe { env::set_var(name, value) };
}
