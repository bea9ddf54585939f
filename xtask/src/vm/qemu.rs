//! Boots a kernel in QEMU, and reads what it writes to its two serial lines.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{kernels::Image, tools::Tool};
use crate::arch::Arch;

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
    /// KVM where a guest really starts under it: that /dev/kvm can be opened says little inside of a virtual machine.
    pub fn find(image: &Image, disk: &Path) -> Acceleration {
        let lines = [disk.with_file_name("trial.log"), disk.with_file_name("trial.results")];
        let trial = Guest { image, disk, words: "trial", lines: &lines };
        let usable = Arch::host() == Some(image.line.arch)
            && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
            && boot(Acceleration::Kvm, &trial, KVM_TRIAL).is_ok_and(|ran| ran.console.contains(ALIVE));
        if usable { Acceleration::Kvm } else { Acceleration::Tcg }
    }
}

/// The program that runs guests of this architecture.
pub fn program(arch: Arch) -> Tool {
    match arch {
        Arch::X86_64 => Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" },
        Arch::Aarch64 => Tool { program: "qemu-system-aarch64", package: "qemu-system-arm" },
    }
}

/// The machine that a guest sees.
struct Machine {
    /// `-machine`; the guest's memory is not for KSM, which the tests switch on.
    kind: &'static str,
    /// `-cpu` in emulation.
    processor: &'static str,
    /// What the guest calls its console.
    console: &'static str,
    /// What the guest calls the line for its results, and how it gets one.
    results: (&'static str, [&'static str; 2]),
}

impl Machine {
    fn of(arch: Arch) -> Machine {
        match arch {
            Arch::X86_64 => Machine {
                kind: "mem-merge=off",
                // With `cmpxchg16b` a kernel that allocates by it crashed now and then (QEMU 7.2): an interrupt right
                // after it found a part of an address in the flags.
                processor: "max,-cx16",
                console: "ttyS0",
                results: ("ttyS1", ["-serial", "chardev:results"]),
            },
            Arch::Aarch64 => Machine {
                kind: "virt,gic-version=max,mem-merge=off",
                // One that has pages of 4, 16 and 64 KiB; pointer authentication, which `max` has, is slow to emulate.
                processor: "neoverse-n1",
                console: "ttyAMA0",
                // This machine has one serial line of its own.
                results: ("ttyS0", ["-device", "pci-serial,chardev=results"]),
            },
        }
    }
}

/// What is started.
pub struct Guest<'a> {
    /// The kernel.
    pub image: &'a Image,
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
    let arch = guest.image.line.arch;
    let machine = Machine::of(arch);
    let (accelerator, processor) = match how {
        Acceleration::Kvm => ("kvm", "host"),
        Acceleration::Tcg => ("tcg,thread=single", machine.processor),
    };
    let [console, results] = guest.lines;
    let (results_line, results_device) = machine.results;
    let tool = program(arch);
    let mut command = tool.command()?;
    command
        .args(["-accel", accelerator, "-cpu", processor, "-machine", machine.kind])
        .args(["-m", "2048", "-smp", "2", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-serial", &format!("file:{}", console.display())])
        .args(["-chardev", &format!("file,id=results,path={}", results.display())])
        .args(results_device);
    let disk = format!("file={},format=raw,if=none,id=disk,snapshot=on", guest.disk.display());
    command.args(["-drive", &disk, "-device", "nvme,drive=disk,serial=disk"]);
    command.arg("-kernel").arg(&guest.image.vmlinuz);
    if let Some(initrd) = &guest.image.initrd {
        command.arg("-initrd").arg(initrd);
    }
    let words = format!(
        "console={} cowtrace.results={results_line} {ROOT} quiet panic=-1 {}",
        machine.console, guest.words
    );
    let mut child = command
        .args(["-append", &words])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {} (Debian: {})", tool.program, tool.package))?;
    let ended = wait(&mut child, limit).with_context(|| {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            // What could be read is shown, whatever ended it.
            let _ = stderr.read_to_string(&mut said);
        }
        format!("{}: {}", tool.program, said.trim())
    });
    let console = fs::read(console).unwrap_or_default();
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
