//! Where the programs of a guest come from: this machine, or, for another architecture, Debian's packages.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{kernels, tools};
use crate::{
    arch::Arch,
    archive::{self, Archive},
    sys,
};

/// What brings the tools that tests and the lab start.
const PACKAGES: [&str; 9] = [
    "busybox-static",
    "dash",
    "coreutils",
    "util-linux",
    "mount",
    "stress-ng",
    "python3",
    "redis-tools",
    "sqlite3",
];

/// The programs and libraries of one architecture.
#[derive(Clone, Debug, Default)]
pub enum Userland {
    /// This machine's own files.
    #[default]
    Host,
    /// Debian's packages for another architecture.
    Foreign {
        /// Whose.
        arch: Arch,
        /// Where they are unpacked.
        root: PathBuf,
    },
}

impl Userland {
    /// This machine's, or fetched and kept.
    pub fn of(arch: Arch) -> Result<Userland> {
        if Arch::host() == Some(arch) {
            return Ok(Userland::Host);
        }
        let root = kernels::cache()?.join(format!("root-{}", arch.debian()));
        let archive = Archive::open(&format!("own-{}", arch.debian()), arch, &archive::own_sources(arch)?)?;
        archive.unpacked(&PACKAGES, &root)?;
        Ok(Userland::Foreign { arch, root })
    }

    /// A program of this name.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        match self {
            Userland::Host => sys::find_program(program),
            Userland::Foreign { root, .. } => tools::below(root, program),
        }
    }

    /// A guest's shell and small programs.
    pub fn busybox(&self) -> Result<PathBuf> {
        match self {
            Userland::Host => tools::BUSYBOX.path(),
            Userland::Foreign { .. } => {
                let tools::Tool { program, package } = tools::BUSYBOX;
                self.find(program).with_context(|| format!("{package} has no {program}"))
            }
        }
    }

    /// The C compiler that builds for it.
    pub fn compiler(&self) -> String {
        match self {
            Userland::Host => "cc".to_owned(),
            Userland::Foreign { arch, .. } => format!("{}-gcc", arch.gnu()),
        }
    }

    /// The shared libraries that the dynamic linker would load for a program: where they are here, and where in the
    /// guest. None for a static one.
    pub fn libraries(&self, program: &Path) -> Result<Vec<(PathBuf, String)>> {
        match self {
            Userland::Host => {
                let output = Command::new("ldd").arg(program).output().context("cannot start `ldd`")?;
                let paths = library_paths(&String::from_utf8_lossy(&output.stdout));
                Ok(paths.into_iter().map(|path| (PathBuf::from(&path), path)).collect())
            }
            Userland::Foreign { arch, root } => needed(*arch, root, program),
        }
    }
}

/// The same without `ldd`, which runs the program.
fn needed(arch: Arch, root: &Path, program: &Path) -> Result<Vec<(PathBuf, String)>> {
    let gnu = arch.gnu();
    let places = [format!("lib/{gnu}"), format!("usr/lib/{gnu}"), "lib".to_owned(), "usr/lib".to_owned()];
    let mut found = BTreeMap::new();
    let mut waiting = vec![program.to_owned()];
    while let Some(file) = waiting.pop() {
        let mut readelf = Command::new(format!("{gnu}-readelf"));
        let headers = sys::output(readelf.args(["--wide", "-l", "-d"]).arg(&file))?;
        for name in needed_names(&headers) {
            // The dynamic linker is named by its path.
            let in_guest = match name.strip_prefix('/') {
                Some(path) => Some(path.to_owned()),
                None => places.iter().map(|p| format!("{p}/{name}")).find(|path| root.join(path).exists()),
            };
            let in_guest = in_guest
                .with_context(|| format!("{} needs {name}, which no fetched package has", file.display()))?;
            let here = root.join(&in_guest);
            if found.insert(in_guest, here.clone()).is_none() {
                waiting.push(here);
            }
        }
    }
    Ok(found.into_iter().map(|(in_guest, here)| (here, in_guest)).collect())
}

fn library_paths(ldd: &str) -> Vec<String> {
    ldd.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

/// Libraries and the dynamic linker in what `readelf -l -d` prints.
fn needed_names(headers: &str) -> Vec<&str> {
    let name = |line| {
        let (_, rest) = str::split_once(line, "(NEEDED)")
            .and_then(|(_, rest)| rest.split_once('['))
            .or_else(|| line.split_once("program interpreter: "))?;
        rest.split_once(']').map(|(name, _)| name)
    };
    headers.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_absolute_paths_of_ldd() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld-linux.so.2 (0x7e)\n";
        assert_eq!(library_paths(ldd), ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]);
        assert!(library_paths("\tstatically linked\n").is_empty());
    }

    #[test]
    fn a_foreign_program_names_its_libraries_and_its_linker() {
        let headers = "  INTERP  0x000238\n      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]\n\
                       \x200x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]\n\
                       \x20 0x000000000000001d (RUNPATH)           Library runpath: [/x]\n";
        assert_eq!(needed_names(headers), ["/lib/ld-linux-aarch64.so.1", "libgcc_s.so.1"]);
        assert!(needed_names("There is no dynamic section in this file.\n").is_empty());
    }
}
