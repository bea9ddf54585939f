//! Boots a kernel in QEMU, and reads what it writes to its two serial lines.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Debian's package.
pub const PACKAGE: &str = "qemu-system-x86";
pub const PROGRAM: &str = "qemu-system-x86_64";

/// What the guest prints when it has seen that it runs.
const ALIVE: &str = "cowtrace-vm: alive";
/// The disk.
const ROOT: &str = "root=/dev/nvme0n1 rootwait rw init=/init";
/// A guest under KVM is there long before this.
const KVM_TRIAL: Duration = Duration::from_secs(8);

/// How instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// By the processor.
    Kvm,
    /// By emulation: some ten times slower.
    Tcg,
}

impl Acceleration {
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Acceleration::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // With `cmpxchg16b` a kernel that allocates by it crashed now and then (QEMU 7.2): an interrupt right
            // after it found a part of an address in the flags.
            Acceleration::Tcg => ["-accel", "tcg,thread=single", "-cpu", "max,-cx16"],
        }
    }

    /// KVM where a guest really starts under it: that /dev/kvm can be opened says little inside of a virtual machine.
    pub fn find(vmlinuz: &Path, disk: &Path) -> Acceleration {
        let lines = [disk.with_file_name("trial.log"), disk.with_file_name("trial.results")];
        let trial = Guest { vmlinuz, disk, words: "trial", lines: &lines };
        let usable = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
            && boot(Acceleration::Kvm, &trial, KVM_TRIAL).is_ok_and(|ran| ran.console.contains(ALIVE));
        if usable { Acceleration::Kvm } else { Acceleration::Tcg }
    }
}

/// What is started.
pub struct Guest<'a> {
    /// The kernel.
    pub vmlinuz: &'a Path,
    /// Its root file system; what it writes there is forgotten.
    pub disk: &'a Path,
    /// Words of its command line.
    pub words: &'a str,
    /// Files for what it writes to its serial lines: the console, and its results.
    pub lines: &'a [PathBuf; 2],
}

/// A guest that is gone.
pub struct Ran {
    /// What it printed on the console.
    pub console: String,
    /// Whether it powered off by itself.
    pub ended: Result<()>,
}

/// Boots, and waits until the guest powers off, or for so long.
pub fn boot(how: Acceleration, guest: &Guest<'_>, limit: Duration) -> Result<Ran> {
    let mut command = Command::new(PROGRAM);
    command
        .args(how.arguments())
        // The guest's memory is not for KSM, which the tests switch on.
        .args(["-machine", "mem-merge=off", "-m", "2048", "-smp", "2", "-nodefaults", "-no-user-config"])
        .args(["-no-reboot", "-display", "none"]);
    for line in guest.lines {
        command.arg("-serial").arg(format!("file:{}", line.display()));
    }
    let disk = format!("file={},format=raw,if=none,id=disk,snapshot=on", guest.disk.display());
    let words = format!("console=ttyS0 cowtrace.results=ttyS1 {ROOT} quiet panic=-1 {}", guest.words);
    let mut child = command
        .args(["-drive", &disk, "-device", "nvme,drive=disk,serial=disk"])
        .arg("-kernel")
        .arg(guest.vmlinuz)
        .args(["-append", &words])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM} (Debian: {PACKAGE})"))?;
    let ended = wait(&mut child, limit).with_context(|| {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            // What could be read is shown, whatever ended it.
            let _ = stderr.read_to_string(&mut said);
        }
        format!("{PROGRAM}: {}", said.trim())
    });
    let console = fs::read(&guest.lines[0]).unwrap_or_default();
    Ok(Ran { console: String::from_utf8_lossy(&console).into_owned(), ended })
}

fn wait(child: &mut Child, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for QEMU")? {
            if status.success() {
                return Ok(());
            }
            bail!("QEMU failed: {status}");
        }
        if Instant::now() > end {
            child.kill().context("cannot end QEMU")?;
            child.wait().context("cannot wait for QEMU")?;
            bail!("the guest was not done within {} s", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
