//! The kernels of the matrix: Debian's, fetched through the machine's own apt configuration, and kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{initrd, userland::Userland};
use crate::{
    arch::Arch,
    archive::{self, Archive, Source},
    sys,
};

/// Since sid's 7.x the image is in a package that the named one depends on.
const IMAGE_PACKAGES: [&str; 2] = ["linux-binary-", "linux-image-"];

/// What the guest's disk needs and Debian's kernels for all machines have as modules, in the order in which they are loaded.
const DISK_MODULES: [&str; 8] =
    ["nvme-auth", "nvme-core", "nvme", "crc16", "crc32c_generic", "mbcache", "jbd2", "ext4"];

/// A kernel line, and the Debian suite that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// As on the command line.
    pub name: &'static str,
    /// What it runs on.
    pub arch: Arch,
    /// The size of its pages.
    pub page_kb: u32,
    suite: &'static str,
    package: &'static str,
    /// Modules without which it does not find the guest's disk.
    modules: &'static [&'static str],
}

impl Line {
    const fn amd64(name: &'static str, suite: &'static str) -> Line {
        Line { name, arch: Arch::X86_64, page_kb: 4, suite, package: "linux-image-cloud-amd64", modules: &[] }
    }

    const fn arm64(name: &'static str, suite: &'static str) -> Line {
        Line {
            name,
            arch: Arch::Aarch64,
            page_kb: 4,
            suite,
            package: "linux-image-cloud-arm64",
            modules: &[],
        }
    }
}

/// All of the matrix: an architecture after the other, the oldest kernel first.
pub const LINES: [Line; 7] = [
    Line::amd64("5.10", "bullseye"),
    Line::amd64("6.1", "bookworm"),
    Line::amd64("6.12", "trixie"),
    Line::amd64("7.2", "sid"),
    Line::arm64("6.1-arm64", "bookworm"),
    Line::arm64("6.12-arm64", "trixie"),
    Line {
        name: "6.12-arm64-16k",
        arch: Arch::Aarch64,
        page_kb: 16,
        suite: "trixie",
        package: "linux-image-arm64-16k",
        modules: &DISK_MODULES,
    },
];

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its line.
    pub line: Line,
    /// The compressed kernel.
    pub vmlinuz: PathBuf,
    /// What it is booted with if it does not find the guest's disk by itself.
    pub initrd: Option<PathBuf>,
}

/// Where all that the matrix keeps from one run to the next is.
pub fn cache() -> Result<PathBuf> {
    Ok(archive::cache()?.join("vm"))
}

/// The kernels of one architecture, in all suites.
pub struct Kernels {
    archive: Archive,
}

impl Kernels {
    /// Opens the suites that have kernels for `arch`.
    pub fn open(arch: Arch) -> Result<Kernels> {
        let repository = archive::mirror()?;
        let source =
            |line: Line| Source { repository: repository.clone(), suite: line.suite.to_owned(), arch };
        let sources = LINES.into_iter().filter(|line| line.arch == arch).map(source).collect();
        Ok(Kernels { archive: Archive::open(&format!("kernels-{}", arch.debian()), arch, &sources)? })
    }

    /// The newest kernel of this line.
    pub fn newest(&self, line: Line) -> Result<Image> {
        let version = self.archive.version(line.package, line.suite)?;
        let kept = cache()?.join("kernels").join(format!("{}-{version}", line.name));
        let vmlinuz = kept.join("vmlinuz");
        let initrd = (!line.modules.is_empty()).then(|| kept.join("initrd"));
        let files = || [Some(&vmlinuz), initrd.as_ref()].into_iter().flatten();
        if !files().all(|file| file.is_file()) {
            eprintln!("vm: fetching Linux {version} ({}, {})", line.suite, line.arch);
            let place = kept.join("packages");
            let package = self.fetch_package(line.package, &version, &place, &vmlinuz)?;
            if let Some(initrd) = &initrd {
                let modules = modules(&package, line.modules, &place)?;
                initrd::make(&Userland::of(line.arch)?, &modules, &place.join("files"), initrd)?;
            }
            fs::remove_dir_all(&place).context("cannot remove the fetched packages")?;
        }
        Ok(Image { line, vmlinuz, initrd })
    }

    /// Follows the dependencies from the named package to the one with the image, and takes it out of there. Gives the
    /// package, which is in `place`.
    fn fetch_package(&self, package: &str, version: &str, place: &Path, goal: &Path) -> Result<PathBuf> {
        let mut package = package.to_owned();
        for _ in 0..3 {
            let shown = self.archive.show(&format!("{package}={version}"))?;
            package = image_dependency(&shown)
                .with_context(|| format!("{package} {version} depends on no kernel image"))?
                .to_owned();
            let file = self.archive.download(&format!("{package}={version}"), place)?;
            let list = sys::output(Command::new("dpkg-deb").arg("--contents").arg(&file))?;
            if let Some(member) = vmlinuz_in(&list) {
                extract(&file, member, goal)?;
                return Ok(file);
            }
        }
        bail!("no package of Linux {version} has a vmlinuz")
    }
}

/// Takes modules of these names out of a package.
fn modules(package: &Path, names: &[&str], place: &Path) -> Result<Vec<PathBuf>> {
    let list = sys::output(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    let take = |name: &&str| {
        let member =
            module_in(&list, name).with_context(|| format!("{} has no module {name}", package.display()))?;
        let goal = place.join(format!("{name}.ko"));
        let decompressor = if member.ends_with(".xz") { "xz --decompress" } else { "cat" };
        let pipe = format!(
            "dpkg-deb --fsys-tarfile \"$1\" | tar --extract --to-stdout \"$2\" | {decompressor} > \"$3\""
        );
        let mut command = Command::new("sh");
        sys::run(command.args(["-c", &pipe, "sh"]).arg(package).arg(member).arg(&goal))?;
        Ok(goal)
    };
    names.iter().map(take).collect()
}

/// A module in the listing of a package.
fn module_in<'a>(contents: &'a str, name: &str) -> Option<&'a str> {
    let file = |path: &str| path.rsplit('/').next().and_then(|file| file.split(".ko").next()) == Some(name);
    contents.lines().filter_map(|line| line.split_whitespace().last()).find(|path| file(path))
}

/// The image among the dependencies of a package.
fn image_dependency(shown: &str) -> Option<&str> {
    let line = shown.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let names: Vec<&str> = line.split([',', '|']).filter_map(|d| d.split_whitespace().next()).collect();
    IMAGE_PACKAGES.iter().find_map(|prefix| names.iter().copied().find(|name| name.starts_with(prefix)))
}

/// The kernel in the listing of a package.
fn vmlinuz_in(contents: &str) -> Option<&str> {
    let paths = contents.lines().filter_map(|line| line.split_whitespace().last());
    paths.into_iter().find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("vmlinuz")))
}

fn extract(package: &Path, member: &str, goal: &Path) -> Result<()> {
    let unpacked = goal.with_extension("part");
    let pipe = "dpkg-deb --fsys-tarfile \"$1\" | tar --extract --to-stdout \"$2\" > \"$3\"";
    let mut command = Command::new("sh");
    sys::run(command.args(["-c", pipe, "sh"]).arg(package).arg(member).arg(&unpacked))?;
    // Whole or not at all: an interrupted run must not leave half a kernel under this name.
    fs::rename(&unpacked, goal).with_context(|| format!("cannot create {}", goal.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_found_through_dependencies() {
        let meta =
            "Package: x\nDepends: linux-base-cloud-amd64 (= 7), linux-image-7.2.13+deb14-cloud-amd64 (= 7)\n";
        assert_eq!(image_dependency(meta), Some("linux-image-7.2.13+deb14-cloud-amd64"));
        let image =
            "Depends: dracut | linux-initramfs-tool, linux-binary-7.2.13+deb14-cloud-amd64 (= 7), kmod\n";
        assert_eq!(image_dependency(image), Some("linux-binary-7.2.13+deb14-cloud-amd64"));
        let listing = "-rw-r--r-- root/root 106136 2024-08-10 06:09 ./boot/config-5.10\n\
                       -rw-r--r-- root/root 12141760 2024-08-10 06:09 ./boot/vmlinuz-5.10\n";
        assert_eq!(vmlinuz_in(listing), Some("./boot/vmlinuz-5.10"));
    }

    #[test]
    fn a_module_is_found_by_its_whole_name() {
        let listing = "drwxr-xr-x root/root 0 2026-08-29 04:19 ./usr/lib/modules/6.12/kernel/drivers/nvme/\n\
                       -rw-r--r-- root/root 76560 2026-08-29 04:19 ./usr/lib/modules/6.12/nvme-core.ko.xz\n\
                       -rw-r--r-- root/root 29088 2026-08-29 04:19 ./usr/lib/modules/6.12/nvme.ko.xz\n";
        assert_eq!(module_in(listing, "nvme"), Some("./usr/lib/modules/6.12/nvme.ko.xz"));
        assert_eq!(module_in(listing, "nvm"), None);
    }
}
