//! The kernels of the matrix: Debian's, fetched through the machine's own apt configuration, and kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    arch::Arch,
    archive::{self, Archive, Source},
    sys,
};

/// Since sid's 7.x the image is in a package that the named one depends on.
const IMAGE_PACKAGES: [&str; 2] = ["linux-binary-", "linux-image-"];

/// A kernel line, and the Debian suite that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// As on the command line.
    pub name: &'static str,
    /// What it runs on.
    pub arch: Arch,
    suite: &'static str,
    package: &'static str,
}

impl Line {
    const fn amd64(name: &'static str, suite: &'static str) -> Line {
        Line { name, arch: Arch::X86_64, suite, package: "linux-image-cloud-amd64" }
    }

    const fn arm64(name: &'static str, suite: &'static str, package: &'static str) -> Line {
        Line { name, arch: Arch::Aarch64, suite, package }
    }
}

/// All of the matrix: an architecture after the other, the oldest kernel first.
pub const LINES: [Line; 7] = [
    Line::amd64("5.10", "bullseye"),
    Line::amd64("6.1", "bookworm"),
    Line::amd64("6.12", "trixie"),
    Line::amd64("7.2", "sid"),
    Line::arm64("6.1-arm64", "bookworm", "linux-image-cloud-arm64"),
    Line::arm64("6.12-arm64", "trixie", "linux-image-cloud-arm64"),
    // Pages of 16 KiB.
    Line::arm64("6.12-arm64-16k", "trixie", "linux-image-arm64-16k"),
];

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its line.
    pub line: Line,
    /// The compressed kernel.
    pub vmlinuz: PathBuf,
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
        if !vmlinuz.is_file() {
            eprintln!("vm: fetching Linux {version} ({}, {})", line.suite, line.arch);
            self.fetch_image(line.package, &version, &vmlinuz)?;
        }
        Ok(Image { line, vmlinuz })
    }

    /// Follows the dependencies from the named package to the one with the image, and takes it out of there.
    fn fetch_image(&self, package: &str, version: &str, goal: &Path) -> Result<()> {
        let place = goal.with_file_name("packages");
        let mut package = package.to_owned();
        for _ in 0..3 {
            let shown = self.archive.show(&format!("{package}={version}"))?;
            package = image_dependency(&shown)
                .with_context(|| format!("{package} {version} depends on no kernel image"))?
                .to_owned();
            let file = self.archive.download(&format!("{package}={version}"), &place)?;
            let list = sys::output(Command::new("dpkg-deb").arg("--contents").arg(&file))?;
            if let Some(member) = vmlinuz_in(&list) {
                extract(&file, member, goal)?;
                return fs::remove_dir_all(&place).context("cannot remove the fetched packages");
            }
        }
        bail!("no package of Linux {version} has a vmlinuz")
    }
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
}
