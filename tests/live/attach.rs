//! `attach`: processes that run already, with all their threads and descendants; none is missed, none is counted twice.

use std::{
    collections::HashSet,
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Attached, Exited, Listener, MARKER_UID, Setting, compare, counts_copies, cowtrace, finish, found, live,
    number, processes, program, regions_sum_up, say, scratch, send, shell, skip, top_region, tracer,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Children of a process's first thread.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Looks again and again, until there is something.
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = found() {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "no {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Fails if anything was lost.
pub(crate) fn nothing_lost(report: &Value) -> Result<()> {
    let lost = report["lost"].as_object().context("no lost")?;
    ensure!(lost.values().all(|count| count == 0), "{lost:?}");
    Ok(())
}

/// A program whose threads wait, and write 1,000 shared pages once it is told to.
pub(crate) fn waiting(threads: u32) -> Result<(Child, u32)> {
    let pages = 1000 / threads;
    let words = ["write-on-signal".to_owned(), threads.to_string(), pages.to_string()];
    let subject = Command::new(program()?).args(words).spawn()?;
    let parent = subject.id();
    let child = until("child with its threads", || {
        let child = *children(parent).first()?;
        let all = fs::read_dir(format!("/proc/{child}/task")).ok()?.count();
        (u32::try_from(all) == Ok(threads + 1)).then_some(child)
    })?;
    Ok((subject, child))
}

#[test]
fn threads_and_children_that_run_already_are_counted() -> Result<()> {
    let _live = live!();
    let (subject, child) = waiting(10)?;
    let attached = Attached::to(&["-p", &subject.id().to_string()])?;
    ensure!(attached.said().contains("2 processes with 12 threads"), "{}", attached.said());
    send(&subject, libc::SIGUSR1)?;
    ensure!(finish(subject, LIMIT)?.status.success(), "the program failed");
    // All are gone: it ends by itself.
    let report = attached.report()?;
    nothing_lost(&report)?;
    regions_sum_up(&report)?;
    assert_eq!(report["exit_status"], Value::Null);
    assert_eq!(processes(&report)?.len(), 2);
    let process = processes(&report)?.into_iter().find(|p| p["pid"] == child).context("no child")?;
    assert_eq!(process["cmdline"][1], "write-on-signal", "from /proc");
    assert_eq!(number(top_region(process, "copy")?, "/faults/copy")?, 1000);
    Ok(())
}

#[test]
fn the_name_and_the_end_of_a_session_can_be_chosen() -> Result<()> {
    let _live = live!();
    let (subject, _) = waiting(10)?;
    let comm = fs::read_to_string(format!("/proc/{}/comm", subject.id()))?;
    let attached = Attached::to(&["--comm", comm.trim()])?;
    attached.interrupt()?;
    let report = attached.report()?;
    ensure!(processes(&report)?.iter().all(|process| process["end_ns"].is_null()), "they still run");
    let attached = Attached::to(&["--comm", comm.trim(), "--duration", "200ms"])?;
    let report = attached.report()?;
    ensure!(number(&report, "/duration_ns")? >= 200_000_000, "{}", report["duration_ns"]);
    send(&subject, libc::SIGUSR1)?;
    ensure!(finish(subject, LIMIT)?.status.success(), "the program failed");
    Ok(())
}

/// While processes come and go by the hundred: each that was created since is as the kernel counts it, and none is missing.
#[test]
fn everything_while_it_forks() -> Result<()> {
    let _live = live!();
    if !counts_copies() {
        skip("everything_while_it_forks", "this kernel does not count copies");
        return Ok(());
    }
    let _accounting = Setting::delay_accounting()?;
    let setpriv = found("setpriv").context("setpriv (Debian: util-linux) is not installed")?;
    let listener = Listener::start()?;
    let script = "for j in 1 2 3; do while :; do (/bin/true | cat; x=$(echo a)) done & done; wait";
    let mut storm = Command::new(setpriv)
        .args(["--reuid", &MARKER_UID.to_string(), "--regid", &MARKER_UID.to_string(), "--clear-groups"])
        .args(shell(script))
        .process_group(0)
        .spawn()?;
    let outcome = storm_under_tracer();
    // SAFETY: the group of a child that is not reaped yet.
    ensure!(unsafe { libc::killpg(storm.id().cast_signed(), libc::SIGKILL) } == 0, "the storm goes on");
    storm.wait()?;
    let exited = listener.finish()?;
    check_storm(&outcome?, &exited)
}

/// It is traced, once it is attached, for so long at least, and until the machine has made so many processes.
const STORM: (Duration, u64) = (Duration::from_secs(2), 500);

/// The report, and for how long it was traced once it was attached.
fn storm_under_tracer() -> Result<(Value, Duration)> {
    thread::sleep(Duration::from_millis(300));
    let attached = Attached::to(&["--all"])?;
    let (begin, before) = (Instant::now(), processes_ever()?);
    thread::sleep(STORM.0);
    until("storm", || (processes_ever().ok()? >= before + STORM.1).then_some(()))?;
    let lasted = begin.elapsed();
    attached.interrupt()?;
    Ok((attached.report()?, lasted))
}

/// Processes and threads that were made since the machine was started.
fn processes_ever() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let count = stat.lines().find_map(|line| line.strip_prefix("processes "));
    Ok(count.context("/proc/stat tells no count of processes")?.trim().parse()?)
}

fn check_storm((report, lasted): &(Value, Duration), exited: &[Exited]) -> Result<()> {
    nothing_lost(report)?;
    regions_sum_up(report)?;
    let all = processes(report)?;
    let pid = |process: &Value| process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let is_whole = |process: &Value| !process["forked_from"].is_null() && !process["end_ns"].is_null();
    let whole: HashSet<u32> = all.iter().filter(|process| is_whole(process)).filter_map(|p| pid(p)).collect();
    let mut known = report.clone();
    let list = known["processes"].as_array_mut().context("no processes")?;
    list.retain(is_whole);
    let theirs: Vec<Exited> = exited.iter().filter(|exit| whole.contains(&exit.pid)).cloned().collect();
    let outcome = compare(&known, &theirs)?;
    outcome.say("attached to everything");
    outcome.exact()?;
    ensure!(outcome.processes > 300, "only {} processes", outcome.processes);
    // Of those that were created once it was attached: whoever exited between two of them was traced as well. Before that,
    // some exit while it is looked for them.
    let attached_ns = number(report, "/duration_ns")?.saturating_sub(u64::try_from(lasted.as_nanos())?);
    let is_late = |process: &&&Value| process["start_ns"].as_u64().is_some_and(|at_ns| at_ns > attached_ns);
    let late: HashSet<u32> =
        all.iter().filter(|process| is_whole(process)).filter(is_late).filter_map(|p| pid(p)).collect();
    let traced: HashSet<u32> = all.iter().filter_map(|process| pid(process)).collect();
    let at = |found: Option<usize>| found.context("none of them exited");
    let first = at(exited.iter().position(|exit| late.contains(&exit.pid)))?;
    let last = at(exited.iter().rposition(|exit| late.contains(&exit.pid)))?;
    let missing: Vec<&Exited> = exited[first..=last]
        .iter()
        .filter(|exit| exit.uid == MARKER_UID && !traced.contains(&exit.pid))
        .collect();
    ensure!(missing.is_empty(), "{} are missing: {:?}", missing.len(), missing.first());
    say(&format!("{} processes in the report, {} of them ran before", all.len(), all.len() - whole.len()));
    Ok(())
}

/// A cgroup of its own; dropped, it is gone.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Cgroup> {
        // Version 2, or one of version 1's.
        let folders = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"]
            .map(|place| PathBuf::from(format!("{place}/cowtrace-test-{}", std::process::id())));
        folders
            .into_iter()
            .find(|folder| {
                fs::create_dir(folder).is_ok() && {
                    let is_cgroup = folder.join("cgroup.procs").is_file();
                    if !is_cgroup {
                        let _ = fs::remove_dir(folder);
                    }
                    is_cgroup
                }
            })
            .map(Cgroup)
    }

    /// Runs a shell script in it.
    fn run(&self, script: &str) -> Result<Child> {
        let script = format!("echo $$ > {}/cgroup.procs && {script}", self.0.display());
        Ok(Command::new("sh").args(["-c", &script]).spawn()?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_cgroup_with_newcomers_and_its_end() -> Result<()> {
    let _live = live!();
    let Some(cgroup) = Cgroup::new() else {
        skip("a_cgroup_with_newcomers_and_its_end", "no cgroup can be made in /sys/fs/cgroup");
        return Ok(());
    };
    let mut first = cgroup.run("exec sleep 60")?;
    until("member", || (!fs::read_to_string(cgroup.0.join("cgroup.procs")).ok()?.is_empty()).then_some(()))?;
    let name = format!("/{}", cgroup.0.file_name().context("no name")?.display());
    let attached = Attached::to(&["--cgroup", &name])?;
    // Descends from nobody in the cgroup; it is there for more than one look.
    let subject = program()?;
    let newcomer = cgroup.run(&format!("sleep 2.5; exec {} fork-write 500", subject.display()))?;
    let newcomer_id = newcomer.id();
    ensure!(finish(newcomer, LIMIT)?.status.success(), "the newcomer failed");
    first.kill()?;
    first.wait()?;
    drop(cgroup);
    let report = attached.report()?;
    nothing_lost(&report)?;
    let child =
        processes(&report)?.into_iter().find(|p| p["forked_from"] == newcomer_id).context("no child")?;
    assert_eq!(number(top_region(child, "copy")?, "/faults/copy")?, 500);
    Ok(())
}

#[test]
fn a_name_with_a_time_waits_for_who_comes() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let late = place.path().join("cow-late");
    fs::copy(program()?, &late)?;
    let begin = Instant::now();
    let attached = Attached::to(&["--comm", "cow-late", "--duration", "6s"])?;
    ensure!(attached.said().contains("attached to 0 processes"), "{}", attached.said());
    let newcomer = Command::new(&late).args(["write-on-signal", "1", "10"]).spawn()?;
    let newcomer_id = newcomer.id();
    // Longer than from one look to the next.
    thread::sleep(Duration::from_millis(2500));
    send(&newcomer, libc::SIGUSR1)?;
    ensure!(finish(newcomer, LIMIT)?.status.success(), "the newcomer failed");
    let report = attached.report()?;
    ensure!(begin.elapsed() >= Duration::from_secs(6), "it ended with the newcomer");
    ensure!(processes(&report)?.iter().any(|p| p["pid"] == newcomer_id), "{report:#}");
    Ok(())
}

#[test]
fn both_process_ids_of_a_container_are_shown() -> Result<()> {
    let _live = live!();
    let Some(unshare) = found("unshare") else {
        skip("both_process_ids_of_a_container_are_shown", "unshare (Debian: util-linux) is not installed");
        return Ok(());
    };
    // A slow machine takes seconds to attach.
    let script = "i=0; while [ $i -lt 600 ]; do /bin/true; sleep 0.1; i=$((i + 1)); done";
    let mut container = Command::new(unshare)
        .args(["--fork", "--kill-child", "--pid", "--mount-proc", "sh", "-c", script])
        .spawn()?;
    let inside = until("first process inside", || children(container.id()).first().copied())?;
    let attached = Attached::to(&["-p", &container.id().to_string(), "--duration", "1s"])?;
    let report = attached.report()?;
    nothing_lost(&report)?;
    let all = processes(&report)?;
    let by_pid = |pid: u32| all.iter().find(|process| process["pid"] == pid).context("not in the report");
    assert_eq!(by_pid(inside)?["ns_pid"], 1);
    assert_eq!(by_pid(container.id())?["ns_pid"], Value::Null);
    let forked = all.iter().find(|process| process["forked_from"] == inside).context("nobody was forked")?;
    let ids = (number(forked, "/ns_pid")?, number(forked, "/pid")?);
    ensure!(ids.0 > 1 && ids.0 < ids.1, "{ids:?}");
    container.kill()?;
    container.wait()?;
    Ok(())
}

/// Whoever ends while it is attached to is reported or refused; nothing hangs.
#[test]
fn who_ends_at_once_ends_the_session() -> Result<()> {
    let _live = live!();
    for delay_ms in (0..200).step_by(20) {
        let script = format!("sleep 0.{delay_ms:03}");
        let mut subject = Command::new("sh").args(["-c", &script]).spawn()?;
        let tracer = tracer("attach")
            .args(["-p", &subject.id().to_string(), "--format", "json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        subject.wait()?;
        let output = finish(tracer, LIMIT)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let refused =
            output.status.code() == Some(1) && (said.contains("no process") || said.contains("has exited"));
        ensure!(output.status.success() || refused, "{delay_ms} ms: {output:?}");
    }
    Ok(())
}

#[test]
fn who_cannot_be_traced_is_told() -> Result<()> {
    let _live = live!();
    let refused = |words: &[&str]| -> Result<(Option<i32>, String)> {
        let output = Command::new(cowtrace()).arg("attach").args(words).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    for (words, status, expected) in [
        (&["-p", "4194303"][..], 1, "no process 4194303"),
        (&["-p", "2"], 1, "kernel"),
        (&["--comm", "nobody-has-this"], 1, "nobody-has-this"),
        (&["--cgroup", "/no/such/cgroup"], 1, "/sys/fs/cgroup/no/such/cgroup"),
        (&[], 2, "--pid"),
        (&["--all", "-p", "1"], 2, "cannot be used"),
        (&["--all", "--duration", "soon"], 2, "--duration"),
        (&["-p", "1", "-p", "x"], 2, "invalid value"),
    ] {
        let (code, said) = refused(words)?;
        assert_eq!(code, Some(status), "{words:?}: {said}");
        ensure!(said.contains(expected) && said.lines().count() <= 2, "{words:?}: {said}");
    }
    Ok(())
}
