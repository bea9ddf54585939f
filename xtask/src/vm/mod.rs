//! `cargo xtask vm`: live tests on Debian's kernels, in virtual machines.

pub mod guest;
pub mod initramfs;
pub mod kernels;
pub mod qemu;

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{apt::Apt, build, setup::Needs};
use guest::Outcome;
use kernels::{Archive, LINES, Line};
use qemu::Acceleration;

/// For one kernel with all its backends.
const LIMIT: Duration = Duration::from_secs(600);

/// Options of `vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Backends to test
    #[arg(long, value_delimiter = ',', default_value = "tracepoint")]
    backends: Vec<String>,
    /// Only tests whose name contains one of these; the default leaves out what takes minutes in emulation
    #[arg(long, value_delimiter = ',', default_value = "contract::,errors::a_kernel,exact::a_,kinds::")]
    tests: Vec<String>,
    /// Kernels to test: 5.10, 6.1, 6.12, 7.2 (default: all)
    #[arg(value_name = "KERNEL", value_parser = line)]
    kernels: Vec<Line>,
}

/// The kernel line of this name, for command lines.
pub fn line(name: &str) -> Result<Line, String> {
    let names = LINES.map(|line| line.name).join(", ");
    LINES.into_iter().find(|line| line.name == name).ok_or_else(|| format!("the kernels are {names}"))
}

/// The command; fails if a test failed on any kernel.
pub fn command(args: &Args) -> Result<ExitCode> {
    let programs = build::build(Needs::Tests)?;
    if Apt::is_here() {
        Apt::default().install(&[qemu::PACKAGE, guest::PACKAGE])?;
    }
    let live = build::live_tests()?;
    let archive = Archive::open()?;
    let lines = if args.kernels.is_empty() { LINES.to_vec() } else { args.kernels.clone() };
    let images = lines.into_iter().map(|line| archive.kernel(line)).collect::<Result<Vec<_>>>()?;
    let initramfs = kernels::cache()?.join("initramfs");
    fs::write(&initramfs, guest::root(&programs, &live)?)
        .with_context(|| format!("cannot write {}", initramfs.display()))?;
    let first = images.first().context("no kernel")?;
    let how = Acceleration::find(&first.vmlinuz, &initramfs);
    if how == Acceleration::Tcg {
        eprintln!("vm: no guest starts under KVM here; the kernels run in emulation");
    }
    let words = guest::command_line(&args.backends, &args.tests);
    let mut failed = Vec::new();
    for image in &images {
        let started = Instant::now();
        let log = kernels::cache()?.join(format!("{}.log", image.line.name));
        let printed = qemu::boot(how, &image.vmlinuz, &initramfs, &words, LIMIT, &log)
            .with_context(|| format!("Linux {}", image.line.name))?;
        eprintln!("vm: all that Linux {} printed: {}", image.line.name, log.display());
        for backend in &args.backends {
            let outcome = Outcome::read(&printed, backend);
            let seconds = started.elapsed().as_secs_f64();
            println!("{:<5} {:<10} {outcome} ({seconds:.0} s)", image.line.name, backend);
            if !outcome.good() {
                failed.push(format!("{} {backend}", image.line.name));
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}
