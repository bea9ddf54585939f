//! Boots a kernel in QEMU, and reads what it prints on the serial line.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::kernels::Image;
use crate::arch::Arch;

/// What the guest prints when it has seen that it runs.
const ALIVE: &str = "cowtrace-vm: alive";
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
    pub fn find(image: &Image, initramfs: &Path) -> Acceleration {
        let log = initramfs.with_file_name("trial.log");
        let usable = Arch::host() == Some(image.line.arch)
            && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
            && boot(Acceleration::Kvm, image, initramfs, "trial", KVM_TRIAL, &log)
                .is_ok_and(|printed| printed.contains(ALIVE));
        if usable { Acceleration::Kvm } else { Acceleration::Tcg }
    }
}

/// Debian's package with the program that runs guests of this architecture.
pub fn package(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "qemu-system-x86",
        Arch::Aarch64 => "qemu-system-arm",
    }
}

/// The machine that a guest sees.
struct Machine {
    program: &'static str,
    /// `-machine`; the guest's memory is not for KSM, which the tests switch on.
    kind: &'static str,
    /// `-cpu` in emulation.
    processor: &'static str,
    console: &'static str,
}

impl Machine {
    fn of(arch: Arch) -> Machine {
        match arch {
            Arch::X86_64 => Machine {
                program: "qemu-system-x86_64",
                kind: "mem-merge=off",
                processor: "max",
                console: "ttyS0",
            },
            Arch::Aarch64 => Machine {
                program: "qemu-system-aarch64",
                kind: "virt,gic-version=max,mem-merge=off",
                // One that has pages of 4, 16 and 64 KiB; pointer authentication, which `max` has, is slow to emulate.
                processor: "neoverse-n1",
                console: "ttyAMA0",
            },
        }
    }
}

/// Boots, waits until the guest powers off, and gives what it printed, which is in `log` as it comes. `words` are its
/// command line's.
pub fn boot(
    how: Acceleration,
    image: &Image,
    initramfs: &Path,
    words: &str,
    limit: Duration,
    log: &Path,
) -> Result<String> {
    let machine = Machine::of(image.line.arch);
    let (accelerator, processor) = match how {
        Acceleration::Kvm => ("kvm", "host"),
        Acceleration::Tcg => ("tcg,thread=single", machine.processor),
    };
    let mut child = Command::new(machine.program)
        .args(["-accel", accelerator, "-cpu", processor, "-machine", machine.kind])
        .args(["-m", "2048", "-smp", "2", "-nodefaults", "-no-user-config"])
        .args(["-no-reboot", "-display", "none", "-serial"])
        .arg(format!("file:{}", log.display()))
        .arg("-kernel")
        .arg(&image.vmlinuz)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("console={} quiet panic=-1 {words}", machine.console)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| {
            let package = package(image.line.arch);
            format!("cannot start {} (Debian: {package})", machine.program)
        })?;
    let ended = wait(&mut child, limit);
    let printed = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    ended.map(|()| printed).with_context(|| {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            // What could be read is shown, whatever ended it.
            let _ = stderr.read_to_string(&mut said);
        }
        format!("{}what the guest printed is in {}", said, log.display())
    })
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
