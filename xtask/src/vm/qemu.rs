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

/// Debian's package.
pub const PACKAGE: &str = "qemu-system-x86";
pub const PROGRAM: &str = "qemu-system-x86_64";

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
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Acceleration::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Acceleration::Tcg => ["-accel", "tcg,thread=single", "-cpu", "max"],
        }
    }

    /// KVM where a guest really starts under it: that /dev/kvm can be opened says little inside of a virtual machine.
    pub fn find(vmlinuz: &Path, initramfs: &Path) -> Acceleration {
        let usable = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
            && boot(
                Acceleration::Kvm,
                vmlinuz,
                initramfs,
                "trial",
                KVM_TRIAL,
                &initramfs.with_file_name("trial.log"),
            )
            .is_ok_and(|printed| printed.contains(ALIVE));
        if usable { Acceleration::Kvm } else { Acceleration::Tcg }
    }
}

/// Boots, waits until the guest powers off, and gives what it printed, which is in `log` as it comes. `words` are its
/// command line's.
pub fn boot(
    how: Acceleration,
    vmlinuz: &Path,
    initramfs: &Path,
    words: &str,
    limit: Duration,
    log: &Path,
) -> Result<String> {
    let mut child = Command::new(PROGRAM)
        .args(how.arguments())
        // The guest's memory is not for KSM, which the tests switch on.
        .args(["-machine", "mem-merge=off", "-m", "2048", "-smp", "2", "-nodefaults", "-no-user-config"])
        .args(["-no-reboot", "-display", "none", "-serial"])
        .arg(format!("file:{}", log.display()))
        .arg("-kernel")
        .arg(vmlinuz)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("console=ttyS0 quiet panic=-1 {words}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM} (Debian: {PACKAGE})"))?;
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
