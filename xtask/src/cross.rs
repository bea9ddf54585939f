//! Building for another architecture than this machine's: a compiler with a standard library for it, and a linker.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::Apt,
    arch::Arch,
    archive::{self, Archive},
    sys,
};

/// Debian's compiler, which is needed for the eBPF object as well, and its standard library for other architectures.
const RUSTC: &str = "/usr/bin/rustc";
const RUSTC_PACKAGE: &str = "rustc-web";
const STD_PACKAGE: &str = "libstd-rust-web-dev";

/// What separates flags for the compiler in cargo's environment.
const SEPARATOR: char = '\x1f';

/// What cargo is told beyond `--target`.
#[derive(Debug, Default)]
pub struct Settings {
    variables: Vec<(String, OsString)>,
}

impl Settings {
    /// Finds, or installs and fetches, what building for `arch` needs here.
    pub fn ensure(arch: Arch) -> Result<Settings> {
        if Arch::host() == Some(arch) {
            return Ok(Settings::default());
        }
        let mut settings = Settings::default();
        let linker = format!("{}-gcc", arch.gnu());
        let apt_is_here = Apt::is_here();
        if apt_is_here {
            Apt::default().install(&arch.cross_packages())?;
        } else if sys::find_program(&linker).is_none() {
            bail!(
                "there is no `{linker}` on PATH to link programs for {arch} with: install it, then try again"
            );
        }
        settings.variable(&variable(arch, "LINKER"), linker);
        let ready =
            sys::output(Command::new("rustc").args(["--print", "target-libdir", "--target", arch.target()]));
        if ready.is_ok_and(|directory| has_std(Path::new(directory.trim()))) {
            return Ok(settings);
        }
        if !apt_is_here {
            bail!(
                "the compiler has no standard library for {0}, and there is no apt to get one with: run \
                 `rustup target add {0}`, then try again",
                arch.target()
            );
        }
        let sysroot = debian_std(arch)?;
        settings.variable("RUSTC", RUSTC);
        settings.variable("CARGO_ENCODED_RUSTFLAGS", with_flag(&sysroot));
        Ok(settings)
    }

    fn variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// Hands them over.
    pub fn apply(&self, cargo: &mut Command) {
        cargo.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

/// Cargo's variable for a setting of a target.
fn variable(arch: Arch, setting: &str) -> String {
    format!("CARGO_TARGET_{}_{setting}", arch.target().replace('-', "_").to_ascii_uppercase())
}

fn has_std(directory: &Path) -> bool {
    let Ok(files) = fs::read_dir(directory) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

/// The flags that the user gives, and where the standard library is. With `--target`, cargo keeps them from what runs
/// on this machine.
fn with_flag(sysroot: &Path) -> OsString {
    let encoded = env::var("CARGO_ENCODED_RUSTFLAGS").ok();
    let plain =
        || env::var("RUSTFLAGS").map(|flags| flags.split_whitespace().collect::<Vec<_>>().join("\x1f"));
    let mut flags = OsString::from(encoded.or_else(|| plain().ok()).unwrap_or_default());
    if !flags.is_empty() {
        flags.push(SEPARATOR.to_string());
    }
    flags.push("--sysroot=");
    flags.push(sysroot);
    flags
}

/// Debian's standard library for `arch`, of the version of its compiler here: unpacked beside, as its package cannot be
/// installed where packages of that architecture are foreign.
fn debian_std(arch: Arch) -> Result<PathBuf> {
    Apt::default().install(&[RUSTC_PACKAGE])?;
    let version = sys::output(Command::new("dpkg-query").args([
        "--show",
        "--showformat",
        "${Version}",
        RUSTC_PACKAGE,
    ]))?;
    let place = archive::cache()?.join("rust-std");
    let root = place.join(format!("{}-{}", arch.debian(), version.trim()));
    let sysroot = root.join("usr");
    let libraries = sysroot.join("lib/rustlib").join(arch.target()).join("lib");
    if has_std(&libraries) {
        return Ok(sysroot);
    }
    eprintln!("setup: fetching Rust's standard library for {} ({STD_PACKAGE})", arch.target());
    let archive = Archive::open(&format!("own-{}", arch.debian()), arch, &archive::own_sources(arch)?)?;
    let package = format!("{STD_PACKAGE}={}", version.trim());
    let (fetched, part) = (place.join("packages"), place.join("part"));
    let file = archive.download(&package, &fetched).with_context(|| {
        format!("Debian has no standard library for {arch} of the version of {RUSTC_PACKAGE} here; bring it up to date")
    })?;
    sys::output(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&part))?;
    fs::remove_dir_all(&fetched).with_context(|| format!("cannot remove {}", fetched.display()))?;
    // Whole or not at all: an interrupted run must not leave half a library under this name.
    fs::rename(&part, &root).with_context(|| format!("cannot create {}", root.display()))?;
    if !has_std(&libraries) {
        bail!("{package} has no standard library in {}", libraries.display());
    }
    Ok(sysroot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_variables_are_named_after_the_target() {
        assert_eq!(variable(Arch::Aarch64, "LINKER"), "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER");
    }
}
