//! The toolchain for the eBPF object: finds a complete one, or completes one from Debian's packages.

use std::{
    env, fmt, fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{apt::Apt, sys};

/// The newest release that the workspace's Rust version builds.
const LINKER_VERSION: &str = "0.13.0";
/// The LLVM versions for which that release has a feature.
const LINKER_LLVM: RangeInclusive<u32> = 21..=23;
/// The name under which rustup knows Debian's compiler.
const LINKED_NAME: &str = "cowtrace-ebpf";
/// Where Debian's compiler lives; rustup takes the directory, not the compiler.
const LINKED_PREFIX: &str = "/usr";
const LINKED_RUSTC: &str = "/usr/bin/rustc";
/// The crates that use unstable features, which a stable compiler has to be told.
const UNSTABLE_CRATES: &str = "aya_ebpf,cowtrace_probes";
const LINKED_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

const EITHER_WAY: &str = "\
the eBPF object needs a toolchain of its own; either of these will do, then run `cargo xtask setup` again:
  - anywhere: `rustup toolchain install nightly --component rust-src`, and a `bpf-linker` on PATH that was built
    with the LLVM version of that nightly (`rustc +nightly -vV` tells it):
    `cargo install bpf-linker --no-default-features --features llvm-VERSION`
  - Debian: rustup, and as root `apt-get install --no-install-recommends rustc-web cargo-web libstd-rust-web-dev-bpf`
    (cargo xtask setup does that and the rest by itself where apt offers these packages)";

/// What cowtrace's build script has to know; it reads this from the file `.ebpf-toolchain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// rustup's name for the toolchain.
    toolchain: String,
    /// The value for RUSTC_BOOTSTRAP, where the compiler is a stable one.
    bootstrap: Option<&'static str>,
    /// The directory with bpf-linker.
    linker_dir: PathBuf,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `cargo xtask setup`, read by cowtrace/build.rs.")?;
        writeln!(f, "toolchain={}", self.toolchain)?;
        writeln!(f, "bootstrap={}", self.bootstrap.unwrap_or_default())?;
        writeln!(f, "linker_dir={}", self.linker_dir.display())
    }
}

impl Choice {
    /// One line for a person.
    pub fn summary(&self) -> String {
        format!("toolchain {}, {}/bpf-linker", self.toolchain, self.linker_dir.display())
    }

    /// Leaves the choice to the build script; says whether that was news.
    pub fn record(&self, root: &Path) -> Result<bool> {
        let path = root.join(".ebpf-toolchain");
        let text = self.to_string();
        // Untouched when right already: its time stamp makes cargo run the build script again.
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(true)
    }
}

/// What is there of the way over Debian's packages.
struct Debian {
    /// LLVM's major version in a compiler that comes with `core` for eBPF.
    llvm: Option<u32>,
    linked: bool,
    linker: bool,
}

impl Debian {
    fn look() -> Result<Self> {
        let llvm = linked_llvm();
        let link = rustup_home()?.join("toolchains").join(LINKED_NAME);
        let linked = fs::read_link(link).is_ok_and(|target| target == Path::new(LINKED_PREFIX));
        let linker = match llvm {
            Some(major) => linker_runs(&linker_root(major)?),
            None => false,
        };
        Ok(Self { llvm, linked, linker })
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.llvm.is_none() {
            missing.push(format!("Rust's core library for eBPF (Debian: {})", LINKED_PACKAGES.join(" ")));
        }
        if !self.linked {
            missing.push(format!("rustup toolchain {LINKED_NAME}, a link to {LINKED_PREFIX}"));
        }
        if !self.linker {
            missing.push(format!("bpf-linker {LINKER_VERSION} (built from source in about a minute)"));
        }
        missing
    }
}

/// What is missing for the eBPF object, for people; nothing where a toolchain is complete.
pub fn missing() -> Result<Vec<String>> {
    if nightly()?.is_some() { Ok(Vec::new()) } else { Ok(Debian::look()?.missing()) }
}

/// A complete toolchain, made complete first where it is not.
pub fn ensure(apt: &mut Apt) -> Result<Choice> {
    if let Some(choice) = nightly()? {
        return Ok(choice);
    }
    if sys::find_program("rustup").is_none() {
        bail!(
            "there is no `rustup` on PATH, and both ways to the eBPF toolchain go through it\n{EITHER_WAY}"
        );
    }
    let debian = Debian::look()?;
    let llvm = match debian.llvm {
        Some(major) => major,
        None => install_compiler(apt).map_err(|error| anyhow!("{error:#}\n{EITHER_WAY}"))?,
    };
    if !debian.linked {
        sys::output(Command::new("rustup").args(["toolchain", "link", LINKED_NAME, LINKED_PREFIX]))?;
    }
    let root = linker_root(llvm)?;
    if !linker_runs(&root) {
        install_linker(apt, llvm, &root)?;
    }
    let linker_dir = root.join("bin");
    Ok(Choice { toolchain: LINKED_NAME.to_owned(), bootstrap: Some(UNSTABLE_CRATES), linker_dir })
}

/// The usual way: nightly with the sources of `core`, and a linker that the user has installed.
fn nightly() -> Result<Option<Choice>> {
    let Some(linker) = sys::find_program("bpf-linker") else { return Ok(None) };
    let Ok(toolchains) = fs::read_dir(rustup_home()?.join("toolchains")) else { return Ok(None) };
    let complete = toolchains.flatten().any(|entry| {
        is_plain_nightly(&entry.file_name().to_string_lossy())
            && entry.path().join("lib/rustlib/src/rust/library/core").is_dir()
    });
    let linker_dir = linker.parent().map(Path::to_path_buf);
    Ok(linker_dir.filter(|_| complete).map(|linker_dir| Choice {
        toolchain: "nightly".to_owned(),
        bootstrap: None,
        linker_dir,
    }))
}

/// `nightly` and `nightly-HOST`, but no dated one: those have names of their own.
fn is_plain_nightly(name: &str) -> bool {
    let rest = name.strip_prefix("nightly");
    rest.is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|host| !host.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn rustup_home() -> Result<PathBuf> {
    from_environment("RUSTUP_HOME", ".rustup")
}

fn linker_root(llvm: u32) -> Result<PathBuf> {
    // In the user's cache, because all clones can share it.
    let cache = from_environment("XDG_CACHE_HOME", ".cache")?;
    Ok(cache.join("cowtrace").join(format!("bpf-linker-{LINKER_VERSION}-llvm-{llvm}")))
}

fn from_environment(variable: &str, below_home: &str) -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(variable)
        .or_else(|| set("HOME").map(|home| home.join(below_home)))
        .with_context(|| format!("neither {variable} nor HOME is set: set one of them"))
}

fn linked_llvm() -> Option<u32> {
    let target = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let rustc = |args: &[&str]| sys::output(Command::new(LINKED_RUSTC).args(args)).ok();
    // The library is the test, not the package: whatever brought it will do.
    let libraries = rustc(&["--print", "target-libdir", "--target", target])?;
    let has_core = fs::read_dir(libraries.trim()).ok()?.flatten().any(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    });
    if !has_core || !Path::new(LINKED_PREFIX).join("bin/cargo").exists() {
        return None;
    }
    llvm_major(&rustc(&["-vV"])?)
}

/// LLVM's major version, from the answer of `rustc -vV`.
fn llvm_major(verbose_version: &str) -> Option<u32> {
    let version = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

fn install_compiler(apt: &mut Apt) -> Result<u32> {
    if !Apt::is_here() {
        bail!(
            "there is neither a nightly with rust-src and a bpf-linker on PATH, nor apt to get a compiler with"
        );
    }
    apt.install(&LINKED_PACKAGES)?;
    let packages = LINKED_PACKAGES.join(" ");
    linked_llvm().with_context(|| {
        format!(
            "{packages} are installed, yet `{LINKED_RUSTC} -vV` names no LLVM or core for eBPF is not there"
        )
    })
}

fn linker_runs(root: &Path) -> bool {
    // Running it also proves that the LLVM library it was linked with is still installed.
    sys::output(Command::new(root.join("bin/bpf-linker")).arg("--version")).is_ok()
}

fn install_linker(apt: &mut Apt, llvm: u32, root: &Path) -> Result<()> {
    if !LINKER_LLVM.contains(&llvm) {
        let (first, last) = (LINKER_LLVM.start(), LINKER_LLVM.end());
        bail!(
            "{LINKED_RUSTC} uses LLVM {llvm}; bpf-linker {LINKER_VERSION} links LLVM {first} to {last} only\n{EITHER_WAY}"
        );
    }
    let (llvm_dev, polly_dev) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
    apt.install(&[&llvm_dev, &polly_dev, "zlib1g-dev", "libzstd-dev"])?;
    eprintln!(
        "setup: building bpf-linker {LINKER_VERSION} for LLVM {llvm} (about a minute, once per machine)"
    );
    let bin = root.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    // On PATH, so that cargo does not advise the user to put it there.
    let path = env::join_paths(env::split_paths(&path).chain([bin.clone()])).with_context(|| {
        format!("{} cannot stand in PATH: set XDG_CACHE_HOME to another place", bin.display())
    })?;
    let feature = format!("llvm-{llvm}");
    let mut install = sys::cargo()?;
    // Not into the checkout's target directory: cargo cleans up after itself only in a temporary one.
    install
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))
        .env("PATH", path)
        .env_remove("CARGO_TARGET_DIR");
    install.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
    install.args(["--no-default-features", "--features", &feature, "--root"]).arg(root);
    if bin.join("bpf-linker").exists() {
        install.arg("--force");
    }
    sys::run(&mut install).context("cannot build bpf-linker, without which no eBPF object can be linked")?;
    if !linker_runs(root) {
        bail!(
            "`{}/bpf-linker --version` does not run: delete {} and try again",
            bin.display(),
            root.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_is_read_from_rustc() {
        let answer =
            "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major(answer), Some(22));
        assert_eq!(llvm_major("LLVM version: 22\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
        assert_eq!(llvm_major("LLVM version: unknown\n"), None);
    }

    #[test]
    fn dated_nightlies_do_not_count() {
        assert!(is_plain_nightly("nightly"));
        assert!(is_plain_nightly("nightly-aarch64-unknown-linux-gnu"));
        assert!(!is_plain_nightly("nightly-2026-01-01-x86_64-unknown-linux-gnu"));
        assert!(!is_plain_nightly("nightlyish"));
        assert!(!is_plain_nightly("stable-x86_64-unknown-linux-gnu"));
    }

    #[test]
    fn the_file_is_plain_key_value_lines() {
        let debian = Choice {
            toolchain: "cowtrace-ebpf".to_owned(),
            bootstrap: Some(UNSTABLE_CRATES),
            linker_dir: PathBuf::from("/cache/bin"),
        };
        let expected = "toolchain=cowtrace-ebpf\nbootstrap=aya_ebpf,cowtrace_probes\nlinker_dir=/cache/bin\n";
        assert!(debian.to_string().ends_with(expected));
        let nightly = Choice { toolchain: "nightly".to_owned(), bootstrap: None, ..debian };
        assert!(nightly.to_string().contains("bootstrap=\n"));
    }
}
