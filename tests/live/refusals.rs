//! Kernels and sandboxes that lack what cowtrace needs: a clear refusal, nothing has run, and never a wrong number.
//!
//! What can be taken away from one process is taken away on this machine: files by mounts that only it sees, system
//! calls by a filter. A lockdown is the whole machine's, and is tested where there is one (in a virtual machine).

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Setting, counters_are_prompt, cowtrace, field, found, live, number, process, program, scratch, skip,
    text, top_region, workload,
};
use serde_json::Value;

use crate::errors::{leaves, refused};

/// cowtrace under circumstances that a test has chosen; arguments are still to be added.
type Start<'a> = &'a dyn Fn() -> Result<Command>;

/// cowtrace where the file system looks as these shell commands leave it, for itself alone.
fn after_mounting(script: &str) -> Result<Command> {
    let unshare = found("unshare").context("unshare (Debian: util-linux) is not installed")?;
    let mut command = Command::new(unshare);
    command.args(["--mount", "sh", "-e", "-c", &format!("{script}\nexec \"$@\""), "sh"]).arg(cowtrace());
    Ok(command)
}

/// cowtrace whose bpf(2) is answered with this errno.
fn without_bpf(errno: i32) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.args(["refuse-bpf", &errno.to_string()]).arg(cowtrace());
    Ok(command)
}

/// `run` and `lab` refuse with these words, and nothing has run; `doctor` gives the same reason, and still tells all.
fn all_refuse(start: Start<'_>, words: &[&str]) -> Result<Value> {
    let place = scratch()?;
    let marker = place.path().join("ran");
    let [touch, file] = leaves(&marker)?;
    for arguments in [&["run", "--", &touch, &file][..], &["lab", "no-heap"]] {
        let output = start()?.args(arguments).env("RUST_BACKTRACE", "1").output()?;
        refused(&output, 3, words).with_context(|| arguments.join(" "))?;
        ensure!(!marker.exists(), "the command has run");
    }
    let output = start()?.args(["doctor", "--format", "json"]).env("RUST_BACKTRACE", "1").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(3), "doctor: {:?} instead of 3: {said}", output.status);
    ensure!(!said.contains("panicked"), "doctor: {said}");
    let checkup: Value = serde_json::from_slice(&output.stdout).context("doctor's output is no JSON")?;
    ensure!(checkup["works"] == false && checkup["backend"].is_null(), "it works: {checkup}");
    for word in words {
        ensure!(text(&checkup, "/reason")?.contains(word), "no {word:?} in {}", checkup["reason"]);
    }
    Ok(checkup)
}

/// How doctor stands to a subject.
fn state<'a>(checkup: &'a Value, subject: &str) -> Result<&'a str> {
    let findings = field(checkup, "/findings")?.as_array().context("findings is no list")?;
    let finding = findings.iter().find(|finding| finding["subject"] == subject);
    text(finding.with_context(|| format!("nothing about {subject} in {checkup}"))?, "/state")
}

#[test]
fn no_type_information() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let empty = place.path().display();
    let start = || after_mounting(&format!("mount --bind {empty} /sys/kernel/btf"));
    let checkup = all_refuse(&start, &["/sys/kernel/btf/vmlinux", "No such file", "CONFIG_DEBUG_INFO_BTF"])?;
    assert_eq!(state(&checkup, "types (BTF)")?, "missing");
    assert_eq!(state(&checkup, "privileges")?, "good", "the rest is still told");
    Ok(())
}

#[test]
fn hidden_symbols() -> Result<()> {
    let _live = live!();
    let _hidden = Setting::set("/proc/sys/kernel/kptr_restrict", "2")?;
    // Where the counters are late as well, they are the reason that is told.
    if counters_are_prompt() {
        let output =
            Command::new(cowtrace()).args(["run", "--backend", "tracepoint", "--", "true"]).output()?;
        refused(&output, 3, &["/proc/kallsyms", "kernel.kptr_restrict", "CAP_SYSLOG"])?;
    }
    let checkup = Command::new(cowtrace()).args(["doctor", "--format", "json"]).output()?;
    let checkup: Value = serde_json::from_slice(&checkup.stdout)?;
    assert_eq!(state(&checkup, "symbols")?, "limited");
    Ok(())
}

#[test]
fn damaged_type_information() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let whole = std::fs::read("/sys/kernel/btf/vmlinux")?;
    let damaged = place.path().join("btf");
    for content in [&b""[..], &whole[..10], &whole[..whole.len() / 2], &[0xa5; 65_536]] {
        std::fs::write(&damaged, content)?;
        let script = format!("mount --bind {} /sys/kernel/btf/vmlinux", damaged.display());
        all_refuse(&|| after_mounting(&script), &["/sys/kernel/btf/vmlinux"])
            .with_context(|| format!("{} bytes", content.len()))?;
    }
    Ok(())
}

#[test]
fn no_sysfs() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let script = format!("mount --bind {} /sys", place.path().display());
    all_refuse(&|| after_mounting(&script), &["/sys/kernel/btf/vmlinux"])?;
    Ok(())
}

#[test]
fn a_sandbox_that_refuses_bpf() -> Result<()> {
    let _live = live!();
    for (errno, answer) in [(libc::EPERM, "Operation not permitted"), (libc::ENOSYS, "not implemented")] {
        let checkup = all_refuse(&|| without_bpf(errno), &["bpf(2)", answer, "seccomp"])?;
        assert_eq!(state(&checkup, "bpf(2)")?, "missing");
    }
    Ok(())
}

#[test]
fn a_user_namespace() -> Result<()> {
    let _live = live!();
    let unshare = found("unshare").context("unshare (Debian: util-linux) is not installed")?;
    let start = || {
        let mut command = Command::new(&unshare);
        command.args(["--user", "--map-root-user"]).arg(cowtrace());
        Ok(command)
    };
    let possible = Command::new(&unshare).args(["--user", "true"]).output()?;
    if !possible.status.success() {
        skip("a_user_namespace", "this kernel gives none");
        return Ok(());
    }
    let checkup = all_refuse(&start, &["user namespace", "on the host"])?;
    assert_eq!(state(&checkup, "namespaces")?, "missing");
    Ok(())
}

/// It is not needed: the same counts, with it and without.
#[test]
fn no_tracefs() -> Result<()> {
    let _live = live!();
    let hidden = "umount -R /sys/kernel/tracing 2>&- || :\numount -R /sys/kernel/debug 2>&- || :";
    let shown = format!("{hidden}\nmount -t tracefs tracefs /sys/kernel/tracing");
    let place = scratch()?;
    let file = place.path().join("report");
    for (script, expected) in [(hidden, "unneeded"), (&shown, "good")] {
        let output = after_mounting(script)?.args(["doctor", "--format", "json"]).output()?;
        ensure!(output.status.success(), "doctor: {output:?}");
        assert_eq!(state(&serde_json::from_slice(&output.stdout)?, "tracefs")?, expected);
        let mut run = after_mounting(script)?;
        run.args(["run", "--format", "json", "-o"]).arg(&file).arg("--");
        let output = run.arg(workload()).args(["cow-write", "300"]).output()?;
        ensure!(output.status.success(), "run: {output:?}");
        let report: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        let copies = number(top_region(process(&report, true)?, "copy")?, "/faults/copy")?;
        ensure!((300..=310).contains(&copies), "{copies} copies of 300 pages");
    }
    Ok(())
}

/// With the kernel's word for it, and, where that is not mounted, without.
#[test]
fn lockdown_confidentiality() -> Result<()> {
    let _live = live!();
    let shown = "mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security";
    let hidden = "umount /sys/kernel/security 2>&- || :";
    let mut reader = Command::new("unshare");
    let read = format!("{shown}\ncat /sys/kernel/security/lockdown");
    let told = reader.args(["--mount", "sh", "-c", &read]).output()?;
    let told = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    if !told.contains("[confidentiality]") {
        let mode = if told.is_empty() { "no lockdown" } else { &told };
        skip(
            "lockdown_confidentiality",
            &format!("this kernel says: {mode}; boot with lockdown=confidentiality"),
        );
        return Ok(());
    }
    let checkup = all_refuse(&|| after_mounting(shown), &["locked down", "/sys/kernel/security/lockdown"])?;
    assert_eq!(state(&checkup, "lockdown")?, "missing");
    let checkup = all_refuse(&|| after_mounting(hidden), &["locked down", "bpf_probe_read_kernel"])?;
    assert_eq!(state(&checkup, "lockdown")?, "missing");
    Ok(())
}
