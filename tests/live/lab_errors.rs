//! The lab when things go wrong: bad input, missing parts, a full disk, Ctrl-C; nothing is left behind.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{cowtrace, finish, live, scratch, text, tracer};
use serde_json::Value;

use crate::lab::{IDS, whole_lab};

/// By this, all processes that a lab has started are found, whatever became of their parents.
const MARKER: &str = "COWTRACE_TEST_MARKER";
const SOON: Duration = Duration::from_secs(20);
/// How long a killed process may still be seen.
const GONE: Duration = Duration::from_secs(5);

/// What experiments may change in the kernel.
const SETTINGS: [&str; 6] = [
    "/proc/sys/vm/nr_hugepages",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/ksm/pages_to_scan",
    "/sys/kernel/mm/ksm/sleep_millisecs",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/proc/sys/kernel/task_delayacct",
];

fn settings() -> Vec<(&'static str, Option<String>)> {
    SETTINGS.map(|path| (path, fs::read_to_string(path).ok())).into()
}

/// A value for [`MARKER`] that no other run has.
fn marker(of: &str) -> String {
    format!("{}-{of}-", std::process::id())
}

/// Processes with this marker in their environment.
fn marked(marker: &str) -> Result<Vec<String>> {
    let wanted = format!("{MARKER}={marker}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|word| word == wanted.as_bytes()) {
            let name = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("{}: {}", entry.file_name().display(), name.replace('\0', " ")));
        }
    }
    Ok(found)
}

fn nothing_left(marker: &str) -> Result<()> {
    let end = Instant::now() + GONE;
    loop {
        let left = marked(marker)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "left behind: {left:?}");
        sleep(Duration::from_millis(20));
    }
}

/// Exit status 2, a short message with these words, and nothing on standard output.
fn bad_usage(arguments: &[&str], words: &[&str]) -> Result<()> {
    let output = tracer("lab").args(arguments).output()?;
    refused(&output, 2, words)
}

fn refused(output: &Output, status: i32, words: &[&str]) -> Result<()> {
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(status), "{:?} instead of {status}: {message}", output.status);
    ensure!(message.lines().count() <= 3, "{message}");
    for word in words {
        ensure!(message.contains(word), "no {word:?} in: {message}");
    }
    ensure!(output.stdout.is_empty(), "{output:?}");
    Ok(())
}

#[test]
fn sizes_that_cannot_be() -> Result<()> {
    bad_usage(&["--size", "0"], &["--size 0"])?;
    bad_usage(&["--size", "big"], &["big", "256M"])?;
    bad_usage(&["--size", "-4"], &["-4"])?;
    // How much is needed, how much there is, and what would fit.
    bad_usage(&["--size", "1T"], &["1T", "needs", "available", "fits"])?;
    bad_usage(&["byte-per-page", "--size", "1T"], &["byte-per-page", "needs", "available", "fits"])?;
    bad_usage(&["no-heap", "--size", "1G"], &["no-heap", "--size"])
}

#[test]
fn an_unknown_experiment_among_known_ones() -> Result<()> {
    bad_usage(&["no-heap", "no-haep"], &["no-haep", "--list"])
}

/// In a mount namespace of its own, so that nobody else sees what is mounted there.
fn mounted(mount: &str, arguments: &str, place: &Path) -> Result<Output> {
    let script = format!("{mount} && exec \"$0\" lab {arguments}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(cowtrace()).current_dir(place);
    Ok(command.output()?)
}

#[test]
fn a_full_disk() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    for (file, option) in [("r.html", "--report"), ("r.md", "--report"), ("r.json", "--format json -o")] {
        let mount = "mkdir -p disk && mount -t tmpfs -o size=4k none disk";
        let output = mounted(mount, &format!("child-writes {option} disk/{file} > shown"), place.path())?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{file}: {output:?}");
        ensure!(message.contains(file) && message.contains("No space left"), "{file}: {message}");
    }
    Ok(())
}

#[test]
fn no_free_huge_pages() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    fs::write(place.path().join("none"), "0\n")?;
    let before = settings();
    let mount = "mount --bind none /proc/sys/vm/nr_hugepages";
    let output = mounted(mount, "hugetlb --format json -o lab.json", place.path())?;
    ensure!(output.status.success(), "{output:?}");
    let lab: Value = serde_json::from_str(&fs::read_to_string(place.path().join("lab.json"))?)?;
    all_unmeasurable(&lab, "nr_hugepages")?;
    assert_eq!(settings(), before);
    Ok(())
}

/// One claim, which says how to get what is missing.
fn all_unmeasurable(lab: &Value, advice: &str) -> Result<()> {
    let claims = lab["experiments"][0]["claims"].as_array().context("no claims")?;
    assert_eq!(claims.len(), 1, "{claims:?}");
    assert_eq!(claims[0]["verdict"], "unmeasurable");
    let why = text(&claims[0], "/why")?;
    ensure!(why.contains(advice), "no {advice} in: {why}");
    Ok(())
}

#[test]
fn missing_programs() -> Result<()> {
    let _live = live!();
    for (id, advice) in [("redis-bgsave", "redis"), ("python-refcounts", "python3")] {
        let place = scratch()?;
        let output = tracer("lab")
            .args([id, "--format", "json"])
            .env("PATH", place.path())
            .current_dir(place.path())
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        all_unmeasurable(&serde_json::from_slice(&output.stdout)?, advice)?;
    }
    Ok(())
}

/// Each experiment is interrupted about half-way: as a terminal does it, all processes of the group at once, or only
/// the lab.
#[test]
fn an_interrupt_in_each_experiment() -> Result<()> {
    let _live = live!();
    let (whole, _) = whole_lab()?;
    let experiments = whole["experiments"].as_array().context("no experiments")?;
    let before = settings();
    let mut cut_short = 0;
    for (index, id) in IDS.into_iter().enumerate() {
        let took = experiments.iter().find(|e| e["id"] == id).and_then(|e| e["duration_ms"].as_u64());
        let half = Duration::from_millis(took.with_context(|| format!("{id} was not run"))? / 2);
        let marker = marker(id);
        let (place, reports) = (scratch()?, scratch()?);
        let file = reports.path().join("lab.json");
        let child = tracer("lab")
            .args([id, "--format", "json", "-o"])
            .arg(&file)
            .env(MARKER, &marker)
            .env("TMPDIR", place.path())
            .current_dir(place.path())
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        sleep(Duration::from_millis(60) + half);
        let pid = i32::try_from(child.id())?;
        let (target, signal, status) =
            if index % 2 == 0 { (-pid, libc::SIGINT, 130) } else { (pid, libc::SIGTERM, 143) };
        // SAFETY: plain numbers; a process or group of this test.
        unsafe { libc::kill(target, signal) };
        let output = finish(child, SOON).with_context(|| format!("{id} does not end"))?;
        let shown = String::from_utf8_lossy(&output.stderr);
        ensure!(!shown.contains("panicked"), "{id}: {shown}");
        // It may just have been done.
        if output.status.code() != Some(0) {
            ensure!(output.status.code() == Some(status), "{id}: {output:?}");
            let json: Value =
                serde_json::from_str(&fs::read_to_string(&file)?).with_context(|| id.to_owned())?;
            ensure!(json["interrupted_by"].is_string(), "{id}: {json}");
            cut_short += 1;
        }
        nothing_left(&marker).with_context(|| id.to_owned())?;
        assert_eq!(settings(), before, "{id}");
        let left: Vec<_> = fs::read_dir(place.path())?.flatten().map(|entry| entry.path()).collect();
        ensure!(left.is_empty(), "{id} leaves {left:?}");
    }
    ensure!(cut_short > IDS.len() / 2, "only {cut_short} were interrupted");
    Ok(())
}

/// Whatever happens to the lab itself: its processes must not outlive it.
#[test]
fn a_killed_lab_leaves_no_process() -> Result<()> {
    let _live = live!();
    for id in ["byte-per-page", "fork-timing", "python-refcounts", "redis-bgsave"] {
        let marker = marker(id);
        let mut child = tracer("lab")
            .args([id, "--format", "json"])
            .env(MARKER, &marker)
            .stdout(Stdio::null())
            .spawn()?;
        sleep(Duration::from_millis(700));
        child.kill()?;
        child.wait()?;
        nothing_left(&marker).with_context(|| id.to_owned())?;
    }
    Ok(())
}
