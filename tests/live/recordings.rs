//! Recordings: the same report as `run` gives, also of a recorder that was killed or whose disk was full.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Listener, MARKER_UID, Setting, backend, compare, cowtrace, field, found, live, number, processes,
    regions_sum_up, scratch, shared_copy, skip, text, trace, tracer, workload,
};
use serde_json::Value;

use crate::errors::{leaves, refused};

/// Forks and execs for many seconds, a few times each.
const LONG: &str = "i=0; while [ $i -lt 600 ]; do /bin/true; sleep 0.01; i=$((i + 1)); done";

fn path(file: &Path) -> Result<&str> {
    file.to_str().context("a path that is not UTF-8")
}

fn ran(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(cowtrace()).args(arguments).env("RUST_BACKTRACE", "1").output()?)
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {output:?}"))
}

fn report_of(file: &Path) -> Result<Value> {
    let output = ran(&["report", "--format", "json", path(file)?])?;
    ensure!(output.status.success(), "{output:?}");
    json(&output)
}

/// What the `sqlite3` shell answers, if there is one: it shares no code with cowtrace's reader.
fn sqlite(file: &Path, query: &str) -> Result<Option<String>> {
    let Some(shell) = found("sqlite3") else {
        skip("recordings", "the sqlite3 shell (Debian: sqlite3) is not installed");
        return Ok(None);
    };
    let output = Command::new(shell).arg(file).arg(query).output()?;
    ensure!(output.status.success(), "{query}: {output:?}");
    Ok(Some(String::from_utf8(output.stdout)?.trim_end().to_owned()))
}

#[test]
fn a_recording_gives_the_report_again_and_snapshots_disturb_no_count() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let file = place.path().join("recording");
    let program = shared_copy(&workload(), place.path())?;
    let script = format!(
        "i=0; while [ $i -lt 25 ]; do {} cow-write 500; sleep 0.1; i=$((i+1)); done",
        path(&program)?
    );
    let setpriv = found("setpriv").context("setpriv (Debian: util-linux) is not installed")?;
    let marker = MARKER_UID.to_string();
    let accounting = Setting::delay_accounting()?;
    let listener = Listener::start()?;
    let output = tracer("record")
        .args(["--format", "json", "-o", path(&file)?, "--"])
        .arg(setpriv)
        .args(["--reuid", &marker, "--regid", &marker, "--clear-groups", "sh", "-c", &script])
        .process_group(0)
        .output()?;
    let exited = listener.finish()?;
    drop(accounting);
    ensure!(output.status.success(), "{output:?}");
    let report = json(&output)?;
    compare(&report, &exited)?.exact()?;
    regions_sum_up(&report)?;
    for what in ["events", "processes", "regions", "stacks"] {
        assert_eq!(number(&report, &format!("/lost/{what}"))?, 0, "{what}");
    }
    assert_eq!(report["complete"], true);
    assert_eq!(report_of(&file)?, report, "field by field");
    let left: Vec<_> = fs::read_dir(place.path())?.filter_map(|file| Some(file.ok()?.file_name())).collect();
    assert_eq!(left.len(), 2, "one file beside the program: {left:?}");
    let screen = ran(&["report", path(&file)?])?;
    ensure!(String::from_utf8_lossy(&screen.stdout).contains("pages copied"), "{screen:?}");

    let copies: u64 = processes(&report)?.iter().filter_map(|p| p["faults"]["copy"].as_u64()).sum();
    ensure!(copies >= 25 * 500, "{copies} copies");
    // The last sample of each process is its count.
    let query = "PRAGMA integrity_check; SELECT sum(copy) FROM processes; SELECT sum(most) FROM
        (SELECT max(copy) AS most FROM samples GROUP BY process); SELECT snapshots >= 2 FROM session";
    if let Some(answer) = sqlite(&file, query)? {
        assert_eq!(answer, format!("ok\n{copies}\n{copies}\n1"));
    }
    Ok(())
}

#[test]
fn a_recorder_that_is_killed_loses_a_second_at_most() -> Result<()> {
    let _live = live!();
    // Half a second for a machine that is busy; or, on a slow one, as long as a recording of nothing takes.
    let begin = Instant::now();
    let nothing = scratch()?;
    let status = tracer("record")
        .args(["-o", path(&nothing.path().join("recording"))?, "--", "true"])
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "{status}");
    let slack = begin.elapsed().max(Duration::from_millis(500));
    for life in [1300, 1900, 3200].map(Duration::from_millis) {
        let place = scratch()?;
        let file = place.path().join("recording");
        let started = place.path().join("started");
        let script = format!("touch {}; {LONG}", path(&started)?);
        let mut child = tracer("record")
            .args(["-o", path(&file)?, "--", "sh", "-c", &script])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let group = i32::try_from(child.id())?;
        let limit = Instant::now() + Duration::from_secs(20);
        while !started.exists() {
            ensure!(Instant::now() < limit, "the command does not start");
            sleep(Duration::from_millis(5));
        }
        sleep(life);
        child.kill()?;
        child.wait()?;
        // SAFETY: plain numbers; the group of this test's own child, whose command is left.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        if let Some(answer) = sqlite(&file, "PRAGMA integrity_check; SELECT complete FROM session")? {
            assert_eq!(answer, "ok\n0", "killed after {life:?}");
        }
        let report = report_of(&file)?;
        assert_eq!((&report["complete"], &report["exit_status"]), (&Value::Bool(false), &Value::Null));
        let last = Duration::from_nanos(number(&report, "/duration_ns")?);
        ensure!(
            last + Duration::from_secs(1) + slack > life,
            "killed after {life:?}, the last snapshot is of {last:?}"
        );
        // In its first moments, the command has made none.
        let least = if last > Duration::from_secs(1) { 2 } else { 1 };
        ensure!(processes(&report)?.len() >= least, "few processes: {report}");
        let screen = ran(&["report", path(&file)?])?;
        let screen = String::from_utf8_lossy(&screen.stdout);
        ensure!(screen.contains("not complete: the recorder ended early"), "{screen}");
    }
    Ok(())
}

/// In a mount namespace of its own, which ends with the processes in it, whatever happens to the test.
#[test]
fn a_full_disk_ends_the_tracing_and_keeps_what_is_there() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let disk = place.path().join("disk");
    let ended = place.path().join("ended");
    fs::create_dir(&disk)?;
    let script = r#"
        mount -t tmpfs -o size=80k none "$1" || exit 99
        "$2" record $4 -o "$1/full" --top 1 -- sh -c "$5; touch $3" > "$3.out" 2> "$3.err"
        echo $? > "$3.status"
        "$2" report --format json "$1/full""#;
    let backend = backend().map_or_else(String::new, |name| format!("--backend={name}"));
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", path(&disk)?])
        .arg(cowtrace())
        .args([
            path(&ended)?,
            &backend,
            "i=0; while [ $i -lt 250 ]; do /bin/true; sleep 0.01; i=$((i + 1)); done",
        ])
        .output()?;
    let said = |what: &str| fs::read_to_string(format!("{}.{what}", ended.display()));
    ensure!(output.status.success(), "{output:?}");
    let message = said("err")?;
    assert_eq!(said("status")?.trim(), "1", "{message}");
    for words in ["cannot write the recording", "full", "what was recorded until then is kept", "processes"] {
        ensure!(message.contains(words), "no {words:?} in: {message}");
    }
    let report = json(&output)?;
    assert_eq!(report["complete"], false);
    ensure!(!processes(&report)?.is_empty(), "nothing is kept");
    // Nobody traces it any more, and it is not disturbed.
    let limit = Instant::now() + Duration::from_secs(120);
    while !ended.exists() {
        ensure!(Instant::now() < limit, "the command has not gone on");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn a_recording_is_not_overwritten_and_a_bad_one_not_read() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let (file, marker) = (place.path().join("recording"), place.path().join("ran"));
    let [touch, ran_file] = leaves(&marker)?;
    for output in ["/nonexistent/recording", "/", "/proc/recording"] {
        let outcome = ran(&["record", "-o", output, "--", &touch, &ran_file])?;
        refused(&outcome, 1, &[output, "create"])?;
    }
    refused(&ran(&["record", "--", &touch, &ran_file])?, 2, &["--output"])?;
    fs::write(&file, "precious")?;
    let outcome = ran(&["record", "-o", path(&file)?, "--", &touch, &ran_file])?;
    refused(&outcome, 2, &[path(&file)?, "exists", "--force"])?;
    ensure!(!marker.exists(), "the command has run");
    assert_eq!(fs::read_to_string(&file)?, "precious");
    refused(&ran(&["report", path(&file)?])?, 1, &[path(&file)?, "not a recording"])?;
    refused(&ran(&["diff", path(&file)?, path(&file)?])?, 1, &[path(&file)?, "not a recording"])?;
    refused(&ran(&["report", "/nonexistent"])?, 1, &["/nonexistent", "No such file"])?;
    refused(&ran(&["report", "/tmp"])?, 1, &["/tmp", "no regular file"])?;
    fs::remove_file(&file)?;
    for _ in ["made", "replaced"] {
        let done = ran(&["record", "--force", "-o", path(&file)?, "--", "sh", "-c", "exit 7"])?;
        assert_eq!(done.status.code(), Some(7), "the command's own status");
    }
    assert_eq!(report_of(&file)?["exit_status"], 7);
    refused(&ran(&["report", path(&file)?, "-o", path(&file)?])?, 2, &["overwrite"])?;
    // A command that cannot start leaves nothing behind.
    let none = place.path().join("none");
    refused(&ran(&["record", "-o", path(&none)?, "--", "/nonexistent/program"])?, 127, &["not found"])?;
    ensure!(!none.exists(), "a recording of nothing");
    fs::write(&none, &fs::read(&file)?[..5000])?;
    refused(&ran(&["report", path(&none)?])?, 1, &["damaged"])
}

#[test]
fn two_runs_compared_and_one_with_itself() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let (a_file, b_file) = (place.path().join("a.cowtrace"), place.path().join("b.json"));
    let output = tracer("record")
        .args(["--format", "json", "-o", path(&a_file)?, "--"])
        .arg(workload())
        .args(["cow-write", "1000"])
        .output()?;
    let a = json(&output)?;
    let command = [workload().into_os_string(), "cow-write".into(), "3000".into()];
    let b = trace(&[], &command)?.complete()?;
    fs::write(&b_file, serde_json::to_vec(&b)?)?;

    let compared = json(&ran(&["diff", "--format", "json", path(&a_file)?, path(&b_file)?])?)?;
    assert_eq!(text(&compared, "/schema")?, "cowtrace.diff/1");
    assert_eq!(compared["warnings"], serde_json::json!([]));
    let sum = |report: &Value, kind: &str| -> Result<u64> {
        processes(report)?.iter().map(|process| number(process, &format!("/faults/{kind}"))).sum()
    };
    for kind in ["copy", "zero", "file"] {
        let (before, after) = (sum(&a, kind)?, sum(&b, kind)?);
        let change = field(&compared, &format!("/totals/{kind}"))?;
        assert_eq!((number(change, "/a")?, number(change, "/b")?), (before, after), "{kind}");
        assert_eq!(change["difference"].as_i64(), Some(after as i64 - before as i64), "{kind}");
        // All processes have one name.
        assert_eq!(&compared["processes"][0][kind], change, "{kind}");
    }
    let difference = number(&compared, "/totals/copy/difference")?;
    // What else they copy, a few pages of stack and C library, depends on where these lie.
    ensure!((1990..=2010).contains(&difference), "{difference} copies more");
    assert_eq!(text(&compared, "/processes/0/name")?, "cowtrace-workload");
    assert_eq!(number(&compared, "/processes/0/count/b")?, 2);
    assert_eq!(text(&compared, "/regions/0/name")?, "[anon]");
    let in_memory = number(&compared, "/regions/0/copy/difference")?;
    ensure!((1990..=2010).contains(&in_memory), "{in_memory} copies more in the memory");
    let rate = field(&compared, "/copies_per_second/a")?.as_f64().context("no rate")?;
    let expected = sum(&a, "copy")? as f64 * 1e9 / number(&a, "/duration_ns")? as f64;
    ensure!((rate / expected - 1.0).abs() < 1e-9, "{rate} and {expected} copies a second");

    for file in [&a_file, &b_file] {
        let same = json(&ran(&["diff", "--format", "json", path(file)?, path(file)?])?)?;
        assert_eq!(same["same"], true);
        assert_eq!(same["totals"]["copy"]["difference"], 0);
        let screen = ran(&["diff", path(file)?, path(file)?])?;
        ensure!(String::from_utf8_lossy(&screen.stdout).ends_with("\nno difference\n"), "{screen:?}");
    }
    Ok(())
}

#[test]
fn what_runs_already_is_recorded_with_its_stacks() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let file = place.path().join("recording");
    let mut loop_of_copies = Command::new("sh")
        .args(["-c", "while sleep 0.05; do $0 cow-write 300; done"])
        .arg(workload())
        .process_group(0)
        .stdout(Stdio::null())
        .spawn()?;
    let pid = loop_of_copies.id().to_string();
    let output = tracer("record")
        .args(["--stacks", "--format", "json", "-d", "2.5", "-o", path(&file)?, "-p", &pid])
        .output();
    let group = i32::try_from(loop_of_copies.id())?;
    // SAFETY: plain integers; a group of ours.
    ensure!(unsafe { libc::killpg(group, libc::SIGKILL) } == 0, "the loop goes on");
    loop_of_copies.wait()?;
    let output = output?;
    ensure!(output.status.success(), "{output:?}");
    let report = json(&output)?;
    assert_eq!(report_of(&file)?, report, "field by field");
    let counted: u64 = processes(&report)?.iter().filter_map(|p| p["faults"]["copy"].as_u64()).sum();
    let stacks = report["stacks"].as_array().context("no stacks")?;
    let of_copies = stacks.iter().filter(|stack| stack["kind"] == "copy");
    let in_stacks: u64 = of_copies.filter_map(|stack| stack["count"].as_u64()).sum();
    ensure!(counted >= 5 * 300, "{counted} copies");
    assert_eq!(in_stacks + number(&report, "/lost/stacks")?, counted);
    let folded = place.path().join("folded");
    let again = ran(&["report", "--folded", path(&folded)?, path(&file)?])?;
    ensure!(again.status.success(), "{again:?}");
    let lines = fs::read_to_string(&folded)?;
    let pages: u64 = lines.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!(Some(pages), report["stack_frames"]["pages"].as_u64());
    Ok(())
}
