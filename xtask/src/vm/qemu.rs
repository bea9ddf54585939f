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
            Acceleration::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// KVM where a guest really starts under it: that /dev/kvm can be opened says little inside of a virtual machine.
    pub fn find(vmlinuz: &Path, initramfs: &Path) -> Acceleration {
        let usable = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
            && boot(Acceleration::Kvm, vmlinuz, initramfs, "trial", KVM_TRIAL)
                .is_ok_and(|printed| printed.contains(ALIVE));
        if usable { Acceleration::Kvm } else { Acceleration::Tcg }
    }
}

/// Boots, waits until the guest powers off, and gives what it printed. `words` are its command line's.
pub fn boot(
    how: Acceleration,
    vmlinuz: &Path,
    initramfs: &Path,
    words: &str,
    limit: Duration,
) -> Result<String> {
    let mut child = Command::new(PROGRAM)
        .args(how.arguments())
        .args(["-m", "2048", "-smp", "2", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(vmlinuz)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("console=ttyS0 quiet panic=-1 {words}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM} (Debian: {PACKAGE})"))?;
    let reader = child.stdout.take().map(|mut stdout| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What could be read is shown, whatever ended it.
            let _ = stdout.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    });
    let ended = wait(&mut child, limit);
    let printed = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    match ended {
        Ok(()) => Ok(printed),
        Err(error) => {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = stderr.read_to_string(&mut said);
            }
            let last: Vec<&str> = printed.lines().rev().take(20).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            Err(error.context(format!("the guest's last words:\n{}\n{}", last.join("\n"), said.trim())))
        }
    }
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
