//! Programs of this machine that guests are made and run with: its own, else Debian's, unpacked and not installed, so that
//! nothing that is installed can be in their way.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{kernels, qemu};
use crate::{
    arch::Arch,
    archive::{self, Archive},
    sys,
};

/// A program, and the Debian package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub program: &'static str,
    /// The package.
    pub package: &'static str,
}

/// A guest's shell and small programs, which also packs archives here.
pub const BUSYBOX: Tool = Tool { program: "busybox", package: "busybox-static" };
/// What makes a guest's disk.
pub const MKFS: Tool = Tool { program: "mkfs.ext4", package: "e2fsprogs" };

/// Where programs are in a package.
const PROGRAMS: [&str; 4] = ["usr/bin", "bin", "usr/sbin", "sbin"];
/// Where QEMU's firmware is in Debian's packages; other programs have none.
const FIRMWARE: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// Sees to it that all is here that guests of this architecture are made and run with.
pub fn ensure(arch: Arch) -> Result<()> {
    [qemu::program(arch), BUSYBOX, MKFS].into_iter().try_for_each(Tool::ensure)
}

impl Tool {
    /// Fetches it if it is neither on this machine nor unpacked.
    fn ensure(self) -> Result<()> {
        if self.path().is_ok() {
            return Ok(());
        }
        let missing = || format!("there is no {} here (Debian: {})", self.program, self.package);
        let host =
            Arch::host().context("Debian has no packages of this architecture").with_context(missing)?;
        let archive = || Archive::open(&format!("own-{}", host.debian()), host, &archive::own_sources(host)?);
        archive().and_then(|archive| archive.unpacked(&[self.package], &self.root()?)).with_context(missing)
    }

    /// Where it is.
    pub fn path(self) -> Result<PathBuf> {
        if let Some(installed) = sys::find_program(self.program) {
            return Ok(installed);
        }
        let unpacked = below(&self.root()?, self.program);
        unpacked.with_context(|| format!("there is no {} here (Debian: {})", self.program, self.package))
    }

    /// What runs it: an unpacked one with the libraries, the modules and the firmware that came with it.
    pub fn command(self) -> Result<Command> {
        let (program, root) = (self.path()?, self.root()?);
        let linker = Arch::host().map(|host| root.join(host.linker())).filter(|linker| linker.is_file());
        let (Some(linker), Some(host)) = (linker.filter(|_| program.starts_with(&root)), Arch::host()) else {
            return Ok(Command::new(program));
        };
        let libraries = ["lib", "usr/lib"].map(|place| root.join(place).join(host.gnu()));
        let mut command = Command::new(linker);
        command.arg("--library-path").arg(libraries.each_ref().map(|path| path.to_string_lossy()).join(":"));
        command.env("QEMU_MODULE_DIR", libraries[1].join("qemu")).arg(program);
        for firmware in FIRMWARE.map(|place| root.join(place)).into_iter().filter(|place| place.is_dir()) {
            command.arg("-L").arg(firmware);
        }
        Ok(command)
    }

    fn root(self) -> Result<PathBuf> {
        Ok(kernels::cache()?.join("tools").join(self.package))
    }
}

/// A program of this name among files that were unpacked.
pub fn below(root: &Path, program: &str) -> Option<PathBuf> {
    PROGRAMS.iter().map(|place| root.join(place).join(program)).find(|path| path.is_file())
}
