//! `cargo xtask vm`: live tests on Debian's kernels, in virtual machines.

pub mod guest;
pub mod initramfs;
pub mod kernels;
pub mod qemu;
pub mod userland;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{apt::Apt, arch::Arch, build, setup::Needs};
use guest::Outcome;
use kernels::{Kernels, LINES, Line};
use qemu::Acceleration;
use userland::Userland;

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
    /// Kernels to test: 5.10, 6.1, 6.12, 7.2, 6.1-arm64, 6.12-arm64, 6.12-arm64-16k (default: all)
    #[arg(value_name = "KERNEL", value_parser = line)]
    kernels: Vec<Line>,
}

/// The kernel line of this name, for command lines.
pub fn line(name: &str) -> Result<Line, String> {
    let names = LINES.map(|line| line.name).join(", ");
    LINES.into_iter().find(|line| line.name == name).ok_or_else(|| format!("the kernels are {names}"))
}

/// What the kernels of one architecture share.
struct Guests {
    kernels: Kernels,
    initramfs: PathBuf,
}

impl Guests {
    /// Builds, and fetches, all that guests of `arch` run.
    fn of(arch: Arch) -> Result<Guests> {
        let target = (Arch::host() != Some(arch)).then_some(arch);
        let programs = build::build_for(target, Needs::Tests)?;
        if Apt::is_here() {
            Apt::default().install(&[qemu::package(arch), guest::PACKAGE])?;
        }
        let live = build::live_tests(target)?;
        let userland = Userland::of(arch)?;
        let initramfs = kernels::cache()?.join(format!("initramfs-{arch}"));
        fs::write(&initramfs, guest::root(&userland, &programs, &live)?)
            .with_context(|| format!("cannot write {}", initramfs.display()))?;
        Ok(Guests { kernels: Kernels::open(arch)?, initramfs })
    }
}

/// The command; fails if a test failed on any kernel.
pub fn command(args: &Args) -> Result<ExitCode> {
    let lines = if args.kernels.is_empty() { LINES.to_vec() } else { args.kernels.clone() };
    let words = guest::command_line(&args.backends, &args.tests);
    let mut failed = Vec::new();
    for arch in Arch::ALL {
        let lines: Vec<_> = lines.iter().copied().filter(|line| line.arch == arch).collect();
        if lines.is_empty() {
            continue;
        }
        let Guests { kernels, initramfs } = Guests::of(arch)?;
        let images = lines.into_iter().map(|line| kernels.newest(line)).collect::<Result<Vec<_>>>()?;
        let first = images.first().context("no kernel")?;
        let how = Acceleration::find(first, &initramfs);
        if how == Acceleration::Tcg {
            eprintln!("vm: no guest starts under KVM here; the {arch} kernels run in emulation");
        }
        for image in &images {
            let started = Instant::now();
            let log = kernels::cache()?.join(format!("{}.log", image.line.name));
            let printed = qemu::boot(how, image, &initramfs, &words, LIMIT, &log)
                .with_context(|| format!("Linux {}", image.line.name))?;
            eprintln!("vm: all that Linux {} printed: {}", image.line.name, log.display());
            for backend in &args.backends {
                let outcome = Outcome::read(&printed, backend);
                let seconds = started.elapsed().as_secs_f64();
                println!("{:<14} {:<10} {outcome} ({seconds:.0} s)", image.line.name, backend);
                if !outcome.good() {
                    failed.push(format!("{} {backend}", image.line.name));
                }
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}
