//! Gets a kernel's files out of a virtual machine.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::wanted;
use crate::{
    sys,
    vm::{
        disk::Tree,
        kernels::{self, Image},
        qemu::{self, Acceleration, Guest, Ran},
        userland::Userland,
    },
};

const INIT: &str = include_str!("init.sh");
/// What stands before and after the archive in the guest's output.
const BEGIN: &str = "cowtrace-freeze: begin";
const END: &str = "cowtrace-freeze: end";
/// In emulation, and most of it is the way over the serial line.
const LIMIT: Duration = Duration::from_secs(300);

/// Boots a kernel, and copies its files to a directory, where they are called as below the guest's root.
pub fn copy_files(image: &Image, directory: &Path) -> Result<()> {
    let cache = kernels::cache()?;
    let userland = Userland::of(image.line.arch)?;
    let root = Tree::new(cache.join("freeze-files"), &userland)?;
    for directory in ["proc", "sys", "dev", "tmp"] {
        root.directory(directory)?;
    }
    root.program(&userland.busybox()?, "bin/busybox")?;
    let events = wanted::TRACEPOINTS.map(|path| format!("{}/{path}/format", wanted::EVENTS));
    let files: Vec<&str> = wanted::FILES.into_iter().chain(events.iter().map(String::as_str)).collect();
    root.file("files", 0o644, (files.join("\n") + "\n").as_bytes())?;
    root.file("init", 0o755, INIT.as_bytes())?;
    let disk = cache.join("freeze-disk");
    root.finish(&disk)?;

    let how = Acceleration::find(image, &disk);
    let lines = ["log", "results"].map(|kind| cache.join(format!("freeze-{}.{kind}", image.line.name)));
    let guest = Guest { image, disk: &disk, words: "", lines: &lines };
    let Ran { console: printed, ended } = qemu::boot(how, &guest, LIMIT)?;
    let log = &lines[0];
    ended.with_context(|| format!("what the guest printed is in {}", log.display()))?;
    let archive = printed.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let (archive, _) = archive.with_context(|| format!("the guest sent no files: see {}", log.display()))?;
    unpack(archive, directory)
}

/// From base64, as the serial line changes line ends.
fn unpack(archive: &str, directory: &Path) -> Result<()> {
    let encoded = directory.join("archive");
    fs::write(&encoded, archive).with_context(|| format!("cannot write {}", encoded.display()))?;
    let mut command = Command::new("sh");
    command.args(["-c", "base64 --decode --ignore-garbage | tar --extract --gzip --directory \"$1\"", "sh"]);
    let input = File::open(&encoded).with_context(|| format!("cannot read {}", encoded.display()))?;
    sys::run(command.arg(directory).stdin(Stdio::from(input)))
        .context("what came over the guest's serial line is damaged")
}
