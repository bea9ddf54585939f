//! What the guests of one architecture have in common: built, and fetched.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{
    guest,
    kernels::{Image, Kernels, Line},
    qemu::Acceleration,
    tools,
    userland::Userland,
};
use crate::{arch::Arch, build, cross::Settings, setup::Needs};

/// All that guests of one architecture need.
pub struct Guests {
    /// How they run.
    pub how: Acceleration,
    /// Their root file system.
    pub disk: PathBuf,
    /// Their kernels.
    pub images: Vec<Image>,
}

impl Guests {
    /// Builds, and fetches, all that guests of `arch` with these kernels run.
    pub fn of(arch: Arch, lines: &[Line], cache: &Path) -> Result<Guests> {
        let target = (Arch::host() != Some(arch)).then_some(arch);
        let programs = build::build_for(target, Needs::Tests)?;
        tools::ensure(arch)?;
        let live = build::live_tests(target)?;
        let kernels = Kernels::open(arch)?;
        let images = lines.iter().map(|line| kernels.newest(*line)).collect::<Result<Vec<_>>>()?;
        let disk = cache.join(format!("disk-{arch}"));
        let files = cache.join(format!("files-{arch}"));
        guest::disk(&Userland::of(arch)?, &programs, &live, &files, &disk)?;
        let how = Acceleration::find(images.first().context("no kernel")?, &disk);
        Ok(Guests { how, disk, images })
    }
}

/// Leaves out the kernels of architectures that nothing can be built for here.
pub fn buildable(mut lines: Vec<Line>) -> Vec<Line> {
    for arch in Arch::ALL {
        if !lines.iter().any(|line| line.arch == arch) {
            continue;
        }
        if let Err(error) = Settings::ensure(arch) {
            eprintln!("vm: without kernels for {arch}: {error:#}");
            lines.retain(|line| line.arch != arch);
        }
    }
    lines
}
