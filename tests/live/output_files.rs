//! Files that are written to: what they hold is lost only when there is something to put in its place.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Result, ensure};
use cowtrace_tests::{cowtrace, live, scratch, skip, tracer, workload};

use crate::errors::{leaves, refused};

/// More than any process id.
const NOBODY: &str = "4194304";
const NO_PROGRAM: &str = "/nonexistent/program";

fn ran(arguments: &[&str], place: &Path) -> Result<Output> {
    Ok(Command::new(cowtrace()).args(arguments).current_dir(place).output()?)
}

/// Names of files, and what they hold.
fn contents(place: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))
    };
    let mut files: Vec<_> = fs::read_dir(place)?.map(read).collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

#[test]
fn a_run_that_fails_leaves_old_reports_and_no_new_ones() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    for name in ["old", "old.folded", "old.svg", "old.map"] {
        fs::write(place.path().join(name), format!("what {name} holds"))?;
    }
    let before = contents(place.path())?;
    let old = ["-o", "old", "--folded", "old.folded", "--flamegraph", "old.svg", "--map", "old.map"];
    let new = ["-o", "new", "--folded", "new.folded", "--flamegraph", "new.svg", "--map", "new.map"];
    let no_folder = ["-o", "old", "--folded", "new.folded", "--map", "/nonexistent/map"];
    let attempts: &[(i32, &[&str], &[&str])] = &[
        (127, &["run"], &["--", NO_PROGRAM]),
        (126, &["run"], &["--", "/etc/passwd"]),
        (1, &["attach", "-p", NOBODY], &[]),
        (1, &["attach", "--comm", "no-such-name"], &[]),
    ];
    for (status, command, subject) in attempts {
        for files in [&old, &new] {
            let arguments = [command, &files[..], subject].concat();
            refused(&ran(&arguments, place.path())?, *status, &[])?;
        }
    }
    refused(&ran(&[&["run"][..], &no_folder, &["--", "true"]].concat(), place.path())?, 1, &["create"])?;
    for file in ["old", "new"] {
        for command in ["trace", "verify"] {
            refused(&ran(&[command, "-o", file, "--", NO_PROGRAM], place.path())?, 127, &[])?;
        }
        refused(&ran(&["report", "-o", file, "--folded", "new.folded", "old.map"], place.path())?, 1, &[])?;
        refused(&ran(&["diff", "-o", file, "old.map", "old.svg"], place.path())?, 1, &[])?;
        let outcome = ran(&["run", "--backend", "fentry", "-o", file, "--", "true"], place.path())?;
        if outcome.status.success() {
            skip("a_run_that_fails_leaves_old_reports_and_no_new_ones", "fentry works here");
            fs::write(place.path().join("old"), "what old holds")?;
            let _ = fs::remove_file(place.path().join("new"));
        }
    }
    ensure!(contents(place.path())? == before, "{:?}", contents(place.path())?);
    let mut run = tracer("run");
    run.args(old).arg("--").arg(workload()).args(["cow-write", "100"]);
    let outcome = run.current_dir(place.path()).output()?;
    ensure!(outcome.status.success(), "{outcome:?}");
    for (name, content) in contents(place.path())? {
        ensure!(!content.is_empty() && !content.starts_with(b"what"), "{name} is not written anew");
    }
    Ok(())
}

#[test]
fn a_recording_stays_until_the_next_session_has_begun() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let record = |words: &[&str]| -> Result<Output> {
        let arguments = [&["record", "--force", "-o", "old.cowtrace"][..], words].concat();
        ran(&arguments, place.path())
    };
    let made = record(&["--", "sh", "-c", "exit 7"])?;
    ensure!(made.status.code() == Some(7), "{made:?}");
    let before = contents(place.path())?;
    refused(&record(&["-p", NOBODY])?, 1, &[])?;
    refused(&record(&["--comm", "no-such-name"])?, 1, &[])?;
    refused(&record(&["--", NO_PROGRAM])?, 127, &["not found"])?;
    let refusal = record(&["--backend", "fentry", "--", "true"])?;
    if refusal.status.success() {
        skip("a_recording_stays_until_the_next_session_has_begun", "fentry works here");
    } else {
        refused(&refusal, 3, &["fentry"])?;
        ensure!(contents(place.path())? == before, "{:?}", fs::read_dir(place.path())?.collect::<Vec<_>>());
    }
    fs::write(place.path().join("text"), "precious")?;
    for arguments in
        [["record", "--force", "-o", "text", "--", "true"], ["record", "--force", "-o", "text", "-p", NOBODY]]
    {
        refused(&ran(&arguments, place.path())?, 2, &["text", "not a recording"])?;
    }
    assert_eq!(fs::read_to_string(place.path().join("text"))?, "precious");
    // Killed at any moment, it leaves the old one or the new one, and no half of either.
    for moment in [20, 60, 100, 150, 200, 400].map(Duration::from_millis) {
        let mut recorder = tracer("record");
        recorder.args(["--force", "-o", "old.cowtrace", "--", "sleep", "1"]);
        let mut recorder = recorder.current_dir(place.path()).stderr(Stdio::null()).spawn()?;
        sleep(moment);
        recorder.kill()?;
        recorder.wait()?;
        let report = ran(&["report", "old.cowtrace"], place.path())?;
        let said = String::from_utf8_lossy(&report.stderr);
        ensure!(report.status.success() || said.contains("before the first snapshot"), "{moment:?}: {said}");
    }
    Ok(())
}

/// Where a file is mounted, in a namespace of its own.
#[test]
fn a_recording_that_cannot_be_replaced_is_known_before_anything_is_traced() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let [touch, marker] = leaves(&place.path().join("ran"))?;
    let script = r#""$0" record -o a -- true 2> /dev/null && cp a b && mount --bind a b || exit 99
        exec "$0" record --force -o b -- "$@""#;
    let outcome = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(cowtrace())
        .args([touch, marker])
        .current_dir(place.path())
        .output()?;
    refused(&outcome, 1, &["create", "busy"])?;
    ensure!(!place.path().join("ran").exists(), "the command has run");
    Ok(())
}

#[test]
fn each_output_needs_a_file_of_its_own() -> Result<()> {
    let place = scratch()?;
    let [touch, marker] = leaves(&place.path().join("ran"))?;
    fs::write(place.path().join("old"), "precious")?;
    fs::hard_link(place.path().join("old"), place.path().join("link"))?;
    for files in [
        ["--folded", "same", "--flamegraph", "same"],
        ["--folded", "same", "-o", "./same"],
        ["--map", "old", "-o", "link"],
    ] {
        let outcome = ran(&[&["run"], &files[..], &["--", &touch, &marker]].concat(), place.path())?;
        refused(&outcome, 2, &[files[1], "twice"])?;
    }
    assert_eq!(fs::read_to_string(place.path().join("old"))?, "precious");
    assert_eq!(contents(place.path())?.len(), 2, "a file was made, or the command has run");
    Ok(())
}

#[test]
fn a_recording_is_not_overwritten_by_its_report() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let outcome = ran(&["record", "--stacks", "-o", "recording", "--", "true"], place.path())?;
    ensure!(outcome.status.success(), "{outcome:?}");
    let before = contents(place.path())?;
    for option in ["-o", "--folded", "--flamegraph"] {
        refused(&ran(&["report", option, "recording", "recording"], place.path())?, 2, &["overwrite"])?;
    }
    ensure!(contents(place.path())? == before, "it has changed");
    Ok(())
}

#[test]
fn devices_take_several_outputs_and_a_redirected_stream_keeps_what_it_has() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let null = ["--folded", "/dev/null", "--flamegraph", "/dev/null", "-o", "/dev/null"];
    let outcome = ran(&[&["run"], &null[..], &["--", "true"]].concat(), place.path())?;
    ensure!(outcome.status.success(), "{outcome:?}");
    fs::write(place.path().join("log"), "before\n")?;
    let script = r#""$0" run --folded /dev/stdout -o /dev/stdout -- echo said >> log"#;
    let outcome =
        Command::new("sh").args(["-c", script]).arg(cowtrace()).current_dir(place.path()).output()?;
    ensure!(outcome.status.success(), "{outcome:?}");
    let log = fs::read_to_string(place.path().join("log"))?;
    ensure!(log.starts_with("before\nsaid\n") && log.contains("pages copied"), "{log}");
    Ok(())
}
