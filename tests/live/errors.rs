//! Errors: the exit status, one or two clear lines, and nothing has run.

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{counters_are_prompt, cowtrace, found, live, scratch, shared_copy, skip};

fn run(arguments: &[&str]) -> Result<Output> {
    // The harshest setting: a panic or an error with a backtrace would show one.
    Ok(Command::new(cowtrace()).args(arguments).env("RUST_BACKTRACE", "1").output()?)
}

/// The exit status is this, and standard error has one or two lines with these words in them.
pub(crate) fn refused(output: &Output, status: i32, words: &[&str]) -> Result<()> {
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(status), "{:?} instead of {status}: {message}", output.status);
    let lines = message.lines().filter(|line| !line.trim().is_empty()).count();
    ensure!((1..=2).contains(&lines), "{lines} lines:\n{message}");
    for word in ["panicked", "backtrace", "Backtrace", "RUST_BACKTRACE"] {
        ensure!(!message.contains(word), "{word} in: {message}");
    }
    for word in words {
        ensure!(message.contains(word), "no {word:?} in: {message}");
    }
    ensure!(output.stdout.is_empty(), "on standard output: {}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// Words of a command that leaves a file behind if it runs.
pub(crate) fn leaves(marker: &Path) -> Result<[String; 2]> {
    Ok(["touch".to_owned(), marker.to_str().context("a path that is not UTF-8")?.to_owned()])
}

#[test]
fn an_unknown_command() -> Result<()> {
    refused(&run(&["frobnicate"])?, 2, &["frobnicate"])
}

#[test]
fn an_unknown_option() -> Result<()> {
    refused(&run(&["run", "--frobnicate", "--", "true"])?, 2, &["--frobnicate"])
}

#[test]
fn an_unknown_experiment() -> Result<()> {
    refused(&run(&["lab", "frobnicate"])?, 2, &["frobnicate"])
}

#[test]
fn an_unknown_format() -> Result<()> {
    refused(&run(&["run", "--format", "xml", "--", "true"])?, 2, &["xml", "human", "json"])?;
    refused(&run(&["lab", "--format", "xml"])?, 2, &["xml", "human", "json"])
}

#[test]
fn nothing_at_all_is_answered_with_the_commands() -> Result<()> {
    let output = run(&[])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && output.stdout.is_empty(), "{:?}: {said}", output.status);
    for word in ["run", "attach", "doctor", "Exit status"] {
        ensure!(said.contains(word), "no {word:?} in: {said}");
    }
    Ok(())
}

#[test]
fn a_number_that_is_too_small() -> Result<()> {
    for option in ["--max-pages", "--max-tasks", "--max-ended"] {
        refused(&run(&["run", "--pages", option, "0", "--", "true"])?, 2, &[option, "at least 1"])?;
    }
    Ok(())
}

#[test]
fn no_command() -> Result<()> {
    refused(&run(&["run"])?, 2, &[])?;
    refused(&run(&["run", "--"])?, 2, &[])
}

#[test]
fn a_command_that_does_not_exist() -> Result<()> {
    let _live = live!();
    refused(&run(&["run", "--", "/nonexistent/program"])?, 127, &["/nonexistent/program", "not found"])?;
    refused(
        &run(&["run", "--", "no-such-program-anywhere"])?,
        127,
        &["no-such-program-anywhere", "not found"],
    )
}

#[test]
fn a_command_that_cannot_be_executed() -> Result<()> {
    let _live = live!();
    refused(&run(&["run", "--", "/etc/passwd"])?, 126, &["/etc/passwd", "Permission denied"])?;
    refused(&run(&["run", "--", "/"])?, 126, &["Permission denied"])
}

#[test]
fn an_output_file_that_cannot_be_created() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let marker = place.path().join("ran");
    let [touch, file] = leaves(&marker)?;
    for output in ["/nonexistent/report", "/", "/proc/report"] {
        let outcome = run(&["run", "-o", output, "--", &touch, &file])?;
        refused(&outcome, 1, &[output, "create"]).with_context(|| output.to_owned())?;
        ensure!(!marker.exists(), "the command has run");
    }
    refused(&run(&["lab", "-o", "/nonexistent/report"])?, 1, &["/nonexistent/report"])
}

#[test]
fn a_report_that_cannot_be_written() -> Result<()> {
    let _live = live!();
    refused(&run(&["run", "-o", "/dev/full", "--", "true"])?, 1, &["/dev/full", "No space left"])
}

#[test]
fn a_report_file_of_no_known_form() -> Result<()> {
    for name in ["report", "report.pdf", "/tmp"] {
        refused(&run(&["lab", "--report", name])?, 2, &[name, ".html", ".md"])?;
    }
    Ok(())
}

#[test]
fn a_report_file_that_is_named_twice() -> Result<()> {
    refused(&run(&["lab", "--report", "a.html", "--report", "./a.html"])?, 2, &["a.html", "twice"])?;
    refused(&run(&["lab", "--report", "a.md", "-o", "a.md"])?, 2, &["a.md", "twice"])
}

#[test]
fn a_report_file_that_cannot_be_created_or_written() -> Result<()> {
    let _live = live!();
    refused(&run(&["lab", "--report", "/nonexistent/a.html"])?, 1, &["create", "/nonexistent/a.html"])?;
    let place = scratch()?;
    let full = place.path().join("full.md");
    std::os::unix::fs::symlink("/dev/full", &full)?;
    let name = full.to_str().context("a path that is not UTF-8")?;
    let outcome = run(&["lab", "no-heap", "--report", name, "-o", "/dev/null"])?;
    refused(&outcome, 1, &["write", name, "No space left"])
}

#[test]
fn the_tracepoint_backend_before_6_2() -> Result<()> {
    if counters_are_prompt() {
        skip(
            "the_tracepoint_backend_before_6_2",
            "the running kernel is a later one; `cargo xtask vm 5.10 6.1`",
        );
        return Ok(());
    }
    for arguments in
        [&["run", "--backend", "tracepoint", "--", "true"][..], &["lab", "--backend", "tracepoint"]]
    {
        refused(&run(arguments)?, 3, &["6.2"])?;
    }
    Ok(())
}

#[test]
fn without_privileges() -> Result<()> {
    let _live = live!();
    let Some(setpriv) = found("setpriv") else {
        skip("without_privileges", "setpriv (Debian: util-linux) is not installed");
        return Ok(());
    };
    let place = scratch()?;
    let program = shared_copy(&cowtrace(), place.path())?;
    let marker = place.path().join("ran");
    let [touch, file] = leaves(&marker)?;
    let lab: &[&str] = &["lab"];
    for arguments in [&["run", "--", &touch, &file], lab] {
        let output = Command::new(&setpriv)
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(arguments)
            .current_dir(place.path())
            .output()?;
        refused(&output, 3, &["root", "CAP_SYSLOG"]).with_context(|| format!("{arguments:?}"))?;
        ensure!(!marker.exists(), "the command has run");
    }
    Ok(())
}

/// With the capabilities that are named, everything is counted that root would count; with fewer, they are named.
#[test]
fn as_many_privileges_as_are_asked_for() -> Result<()> {
    let _live = live!();
    let Some(setpriv) = found("setpriv") else {
        skip("as_many_privileges_as_are_asked_for", "setpriv (Debian: util-linux) is not installed");
        return Ok(());
    };
    let with = |set: &str| {
        let arguments = ["run", "--backend", "tracepoint", "--format", "json", "--", "sh", "-c", "(true)"];
        Command::new(&setpriv).args(["--bounding-set", set]).arg(cowtrace()).args(arguments).output()
    };
    let root = with("+sys_ptrace")?;
    if !root.status.success() {
        skip("as_many_privileges_as_are_asked_for", "the tracepoint backend does not work here");
        return Ok(());
    }
    let output = with("-all,+sys_admin,+syslog")?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let copies = &report["processes"][0]["faults"]["copy"];
    // A virtual machine's kernel may hide what copies are from root as well.
    let all = serde_json::from_slice::<serde_json::Value>(&root.stdout)?;
    ensure!(copies.is_u64() == all["processes"][0]["faults"]["copy"].is_u64(), "not as root: {report}");
    Ok(())
}

/// Where the kernel refuses the hooks of a backend, so does cowtrace, in the kernel's own words.
#[test]
fn a_backend_that_does_not_work_here() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let marker = place.path().join("ran");
    let [touch, file] = leaves(&marker)?;
    for backend in ["fentry", "kprobe"] {
        let outcome = run(&["run", "--backend", backend, "--", &touch, &file])?;
        if outcome.status.success() {
            skip("a_backend_that_does_not_work_here", &format!("{backend} works here"));
            std::fs::remove_file(&marker).context("it has not run the command")?;
            continue;
        }
        refused(&outcome, 3, &[backend, "--backend auto"]).with_context(|| backend.to_owned())?;
        let message = String::from_utf8_lossy(&outcome.stderr).into_owned();
        ensure!(
            message.contains("os error") || message.contains("the kernel allows it"),
            "not the kernel's own word: {message}"
        );
        ensure!(!marker.exists(), "the command has run");
    }
    Ok(())
}
