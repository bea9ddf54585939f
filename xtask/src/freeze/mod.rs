//! `cargo xtask freeze`: keeps of a kernel what cowtrace's choices depend on, for unit tests.

mod btf;
mod guest;
mod symbols;
mod wanted;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::{
    sys,
    vm::{
        self,
        kernels::{Kernels, Line},
        tools,
    },
};

/// Where frozen kernels are.
const FIXTURES: &str = "cowtrace/fixtures/kernels";

/// Options of `freeze`.
#[derive(clap::Args)]
pub struct Args {
    /// Where the kernel's proc and sys are: a copy of another machine's (default: this machine's)
    #[arg(long, default_value = "/", value_name = "DIRECTORY")]
    root: PathBuf,
    /// What to call it (default: the kernel's release)
    #[arg(long, conflicts_with = "kernels")]
    name: Option<String>,
    /// Debian's kernels, which are booted in virtual machines: those of `cargo xtask vm`
    #[arg(value_name = "KERNEL", value_parser = vm::line, conflicts_with = "root")]
    kernels: Vec<Line>,
}

/// The command.
pub fn command(args: &Args) -> Result<ExitCode> {
    if args.kernels.is_empty() {
        freeze(&args.root, args.name.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in &args.kernels {
        tools::ensure(line.arch)?;
        let copy = std::env::temp_dir().join(format!("cowtrace-freeze-{}", process::id()));
        fs::create_dir(&copy).with_context(|| format!("cannot create {}", copy.display()))?;
        let frozen = Kernels::open(line.arch)
            .and_then(|kernels| kernels.newest(*line))
            .and_then(|image| guest::copy_files(&image, &copy))
            .and_then(|()| freeze(&copy, None))
            .with_context(|| format!("Linux {}", line.name));
        fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
        frozen?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes what is kept of the kernel whose files are below `root`.
fn freeze(root: &Path, name: Option<&str>) -> Result<()> {
    let release = read(root, wanted::RELEASE)?;
    let directory = sys::workspace_root()?.join(FIXTURES).join(name.unwrap_or(release.trim()));
    let formats: Vec<(&str, String)> = wanted::TRACEPOINTS
        .into_iter()
        .filter_map(|path| {
            Some((path, read_if_there(root, &format!("{}/{path}/format", wanted::EVENTS)).transpose()?))
        })
        .map(|(path, text)| Ok((path, text?)))
        .collect::<Result<_>>()?;
    if formats.is_empty() {
        let events = root.join(wanted::EVENTS);
        bail!("{} has no tracepoints: `mount -t tracefs tracefs /sys/kernel/tracing`", events.display());
    }
    let btf = root.join(wanted::BTF);
    let btf = fs::read(&btf).with_context(|| format!("cannot read {}", btf.display()))?;
    let btf = btf::excerpt(&btf)?;
    let kallsyms = read(root, wanted::SYMBOLS)?;
    let symbols = symbols::excerpt(&kallsyms)?;
    let arch = read_if_there(root, wanted::ARCH)?.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let page_kb = page_kb(&read(root, wanted::SMAPS)?).context("smaps names no size of pages")?;
    // Not all kernels have these, and some do not let them be read.
    let [preemption, traceable] = [wanted::PREEMPTION, wanted::TRACEABLE].map(|file| read(root, file).ok());
    let facts = json!({
        "version": read(root, wanted::VERSION)?.trim(),
        "arch": arch.trim(),
        "page_size": page_kb * 1024,
        "preemption": preemption.as_deref().map(str::trim),
    });

    write(&directory.join("btf"), &btf)?;
    write(&directory.join("symbols.txt"), symbols.as_bytes())?;
    write(&directory.join("absent.txt"), symbols::absent(&kallsyms).as_bytes())?;
    write(&directory.join("kernel.json"), format!("{facts:#}\n").as_bytes())?;
    if let Some(list) = &traceable {
        write(&directory.join("traceable.txt"), symbols::traceable(list).as_bytes())?;
    }
    for (path, text) in &formats {
        write(&directory.join("formats").join(path), text.as_bytes())?;
    }
    println!(
        "{}: {} bytes of BTF, {} symbols, {} of {} tracepoints",
        directory.display(),
        btf.len(),
        symbols.lines().count(),
        formats.len(),
        wanted::TRACEPOINTS.len()
    );
    Ok(())
}

fn page_kb(smaps: &str) -> Option<u64> {
    smaps
        .lines()
        .find_map(|line| line.strip_prefix("KernelPageSize:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn read(root: &Path, file: &str) -> Result<String> {
    let path = root.join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_if_there(root: &Path, file: &str) -> Result<Option<String>> {
    let path = root.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}
