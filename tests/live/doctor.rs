//! `doctor` on the live kernel: what it says is what `run` then does.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{Setting, cowtrace, field, found, live, number, scratch, shared_copy, skip, text};
use serde_json::Value;

/// Each subject is told, whatever was found.
const SUBJECTS: [&str; 12] = [
    "kernel",
    "privileges",
    "namespaces",
    "lockdown",
    "bpf(2)",
    "types (BTF)",
    "symbols",
    "page frames",
    "mappings",
    "kernel's count",
    "tracefs",
    "locked memory",
];
const BACKENDS: [&str; 3] = ["fentry", "kprobe", "tracepoint"];

fn doctor(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(cowtrace()).arg("doctor").args(arguments).env("RUST_BACKTRACE", "1").output()?)
}

/// The JSON on standard output, with what is always in it.
fn checkup(output: &Output, status: i32) -> Result<Value> {
    ensure!(output.status.code() == Some(status), "{:?} instead of {status}: {output:?}", output.status);
    let checkup: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
    assert_eq!(checkup["schema"], "cowtrace.doctor/1");
    assert_eq!(checkup["works"], status == 0);
    assert_eq!(checkup["backend"].is_null(), status != 0);
    assert_eq!(checkup["reason"].is_null(), status == 0);
    for name in ["/cowtrace/version", "/kernel/release", "/kernel/arch", "/kernel/version"] {
        text(&checkup, name)?;
    }
    number(&checkup, "/kernel/page_size")?;
    for subject in SUBJECTS {
        let found = finding(&checkup, subject)?;
        let known = ["good", "limited", "missing", "unknown", "unneeded"].contains(&text(found, "/state")?);
        ensure!(known && !text(found, "/found")?.is_empty(), "{found}");
        ensure!(
            found["costs"].is_null() == found["advice"].is_null(),
            "no advice, or no reason for it: {found}"
        );
    }
    for backend in BACKENDS {
        let trials = field(&checkup, "/backends")?.as_array().context("backends is no list")?;
        let trial = trials.iter().find(|trial| trial["backend"] == backend).context(backend)?;
        let works = field(trial, "/works")?.as_bool().context("works is no truth value")?;
        ensure!(works == trial["refusal"].is_null(), "{trial}");
    }
    let functions = field(&checkup, "/functions")?.as_array().context("functions is no list")?;
    ensure!(functions.iter().any(|function| function["name"] == "wp_page_copy"), "{functions:?}");
    Ok(checkup)
}

fn finding<'a>(checkup: &'a Value, subject: &str) -> Result<&'a Value> {
    let findings = field(checkup, "/findings")?.as_array().context("findings is no list")?;
    let found = findings.iter().find(|finding| finding["subject"] == subject);
    found.with_context(|| format!("nothing about {subject} in {checkup}"))
}

#[test]
fn run_uses_the_backend_that_it_names() -> Result<()> {
    let _live = live!();
    let output = doctor(&["--format", "json"])?;
    let checkup = checkup(&output, 0)?;
    // What it chooses by itself, whichever backend is under test.
    let output = Command::new(cowtrace()).args(["run", "--format", "json", "--", "true"]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    for what in ["name", "blind_to"] {
        assert_eq!(checkup["backend"][what], report["backend"][what]);
    }
    for what in ["release", "arch", "page_size"] {
        assert_eq!(checkup["kernel"][what], report["kernel"][what]);
    }
    // A backend that is said not to work does not, and one that works does.
    for trial in field(&checkup, "/backends")?.as_array().context("backends is no list")? {
        let name = text(trial, "/backend")?;
        let run = Command::new(cowtrace()).args(["run", "--backend", name, "--", "true"]).output()?;
        assert_eq!(run.status.success(), trial["works"] == true, "{name}: {run:?}");
    }
    let version = Command::new(cowtrace()).arg("--version").output()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert_eq!(version.trim(), format!("cowtrace {}", text(&checkup, "/cowtrace/version")?));
    Ok(())
}

#[test]
fn for_people_it_tells_the_same_in_sixty_columns() -> Result<()> {
    let _live = live!();
    let output = Command::new(cowtrace()).arg("doctor").env("COLUMNS", "60").output()?;
    ensure!(output.status.success(), "{output:?}");
    let page = String::from_utf8_lossy(&output.stdout);
    let widest = page.lines().map(|line| line.chars().count()).max();
    ensure!(widest <= Some(60), "{widest:?} columns:\n{page}");
    for word in SUBJECTS.iter().chain(&BACKENDS) {
        ensure!(page.contains(word), "nothing about {word}:\n{page}");
    }
    Ok(())
}

/// It is to be attached to bug reports.
#[test]
fn it_tells_no_secrets() -> Result<()> {
    let _live = live!();
    let mut command = Command::new(cowtrace());
    let output =
        command.args(["doctor", "--format", "json"]).env("COWTRACE_TEST_SECRET", "tell-nobody").output()?;
    let json = String::from_utf8_lossy(&output.stdout);
    ensure!(!json.contains("tell-nobody"), "a variable of the environment: {json}");
    let words = json.split(|letter: char| !letter.is_ascii_hexdigit());
    let addresses: Vec<_> = words.filter(|word| word.len() == 16 && word.starts_with("ffff")).collect();
    ensure!(addresses.is_empty(), "kernel addresses: {addresses:?}");
    Ok(())
}

#[test]
fn into_a_file_and_nowhere_else() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let file = place.path().join("doctor.json");
    let name = file.to_str().context("a path that is not UTF-8")?;
    let output = doctor(&["--format", "json", "-o", name])?;
    ensure!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let written: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    assert_eq!(written["schema"], "cowtrace.doctor/1");
    let impossible = doctor(&["-o", "/nonexistent/doctor"])?;
    assert_eq!(impossible.status.code(), Some(1), "{impossible:?}");
    Ok(())
}

#[test]
fn nobody_is_told_why_and_everything_else() -> Result<()> {
    let _live = live!();
    let Some(setpriv) = found("setpriv") else {
        skip("nobody_is_told_why_and_everything_else", "setpriv (Debian: util-linux) is not installed");
        return Ok(());
    };
    let place = scratch()?;
    let program = shared_copy(&cowtrace(), place.path())?;
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command.arg("doctor").args(arguments).env("RUST_BACKTRACE", "1").output()
    };
    let checkup = checkup(&as_nobody(&["--format", "json"])?, 3)?;
    ensure!(text(&checkup, "/reason")?.contains("root"), "{}", checkup["reason"]);
    assert_eq!(finding(&checkup, "privileges")?["state"], "missing");
    assert_eq!(finding(&checkup, "types (BTF)")?["state"], "good", "it is for everybody");
    let page = as_nobody(&[])?;
    assert_eq!(page.status.code(), Some(3));
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    ensure!(page.contains("run as root") && page.contains("do_wp_page"), "{page}");
    Ok(())
}

#[test]
fn a_container_with_process_ids_of_its_own() -> Result<()> {
    let _live = live!();
    let mut command =
        Command::new(found("unshare").context("unshare (Debian: util-linux) is not installed")?);
    command.args(["--pid", "--fork"]).arg(cowtrace()).args(["doctor", "--format", "json"]);
    let checkup = checkup(&command.output()?, 3)?;
    ensure!(text(&checkup, "/reason")?.contains("PID namespace"), "{}", checkup["reason"]);
    assert_eq!(checkup["facts"]["privileges"]["pid_namespace"], "own");
    assert_eq!(finding(&checkup, "namespaces")?["state"], "missing");
    Ok(())
}

#[test]
fn hidden_symbols_cost_something() -> Result<()> {
    let _live = live!();
    let _hidden = Setting::set("/proc/sys/kernel/kptr_restrict", "2")?;
    let output = doctor(&["--format", "json"])?;
    let checkup: Value = serde_json::from_slice(&output.stdout)?;
    let symbols = finding(&checkup, "symbols")?;
    assert_eq!(symbols["state"], "limited");
    ensure!(text(symbols, "/advice")?.contains("kernel.kptr_restrict"), "{symbols}");
    ensure!(!text(symbols, "/costs")?.is_empty(), "{symbols}");
    Ok(())
}
