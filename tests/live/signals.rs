//! Signals, terminals, closed pipes and a tracer that is killed.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{cowtrace, finish, live, number, process, program, scratch, trace, tracer, workload};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

fn send(target: i32, signal: i32) -> Result<()> {
    // SAFETY: plain numbers; a process or group of this test.
    ensure!(unsafe { libc::kill(target, signal) } == 0, "kill: {}", std::io::Error::last_os_error());
    Ok(())
}

fn pid(child: &Child) -> Result<i32> {
    Ok(i32::try_from(child.id())?)
}

fn read_report(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).context("no report")?;
    serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
}

#[test]
fn a_command_that_a_signal_ends() -> Result<()> {
    let _live = live!();
    for signal in [libc::SIGKILL, libc::SIGSEGV, libc::SIGTERM, libc::SIGPIPE] {
        let command = [workload().into_os_string(), "signal-self".into(), signal.to_string().into()];
        let traced = trace(&[], &command)?;
        assert_eq!(traced.output.status.code(), Some(128 + signal));
        assert_eq!(traced.report["exit_status"], 128 + signal);
        traced.nothing_lost()?;
        ensure!(number(process(&traced.report, false)?, "/faults/anon")? > 0, "the report is not full");
        let human = tracer("run").args(["--"]).args(&command).output()?;
        let text = String::from_utf8_lossy(&human.stderr).into_owned();
        ensure!(text.contains(&format!("signal {signal}")), "signal {signal} is not named: {text}");
    }
    Ok(())
}

/// Starts a command that waits for a signal, sends it with `how`, and checks that it came, and came once.
fn interrupted(signal: i32, how: impl Fn(i32) -> Result<()>) -> Result<()> {
    let place = scratch()?;
    let file = place.path().join("report");
    let mut child = tracer("run")
        .args(["--format", "json", "-o"])
        .arg(&file)
        .arg("--")
        .arg(program()?)
        .arg("wait-for-signal")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    assert_eq!(lines.next().context("the command is not ready")??, "ready");
    how(pid(&child)?)?;
    let output = finish(child, SOON)?;
    assert_eq!(lines.next().context("the signal did not come")??, format!("signal {signal}"));
    assert_eq!(output.status.code(), Some(40), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let report = read_report(&file)?;
    assert_eq!(report["exit_status"], 40);
    ensure!(number(process(&report, false)?, "/faults/anon")? > 0, "the report is not full");
    Ok(())
}

#[test]
fn a_signal_to_the_tracer_reaches_the_command() -> Result<()> {
    let _live = live!();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        interrupted(signal, |tracer| send(tracer, signal))?;
    }
    Ok(())
}

#[test]
fn a_signal_to_the_group_reaches_both() -> Result<()> {
    let _live = live!();
    interrupted(libc::SIGINT, |tracer| send(-tracer, libc::SIGINT))
}

#[test]
fn an_interrupt_that_ends_the_command() -> Result<()> {
    let _live = live!();
    for (signal, status) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let place = scratch()?;
        let file = place.path().join("report");
        let child = tracer("run")
            .args(["--format", "json", "-o"])
            .arg(&file)
            .args(["--", "sh", "-c", "echo ready; exec \"$0\" sleep-forever"])
            .arg(workload())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut child = child;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        send(pid(&child)?, signal)?;
        let output = finish(child, SOON)?;
        assert_eq!(output.status.code(), Some(status));
        assert_eq!(read_report(&file)?["exit_status"], status);
    }
    Ok(())
}

/// Both ends of a terminal.
pub(crate) fn terminal() -> Result<(File, OwnedFd)> {
    let (mut master, mut slave) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: two integers to fill; no name and no settings asked for.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
    ensure!(opened == 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: two new descriptors that nobody else owns.
    Ok(unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) })
}

#[test]
fn control_c_at_a_terminal() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let file = place.path().join("report");
    let (mut master, slave) = terminal()?;
    let mut command = tracer("run");
    command.args(["--format", "json", "-o"]).arg(&file).arg("--").arg(program()?).arg("wait-for-signal");
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    let terminal = slave.as_raw_fd();
    // SAFETY: only system calls, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() == -1 || libc::ioctl(terminal, libc::TIOCSCTTY, 0) == -1 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    drop(command);
    drop(slave);
    let mut shown = String::new();
    let mut more = |shown: &mut String| {
        let mut bytes = [0; 256];
        // EIO once nobody has the terminal open.
        let got = master.read(&mut bytes).unwrap_or(0);
        shown.push_str(&String::from_utf8_lossy(&bytes[..got]));
        got > 0
    };
    while !shown.contains("ready") && more(&mut shown) {}
    ensure!(shown.contains("ready"), "the command is not ready: {shown}");
    master.write_all(&[3])?;
    let output = finish(child, SOON)?;
    let mut rest = [0; 256];
    let got = master.read(&mut rest).unwrap_or(0);
    shown.push_str(&String::from_utf8_lossy(&rest[..got]));
    assert_eq!(output.status.code(), Some(40), "{shown}");
    ensure!(shown.contains("signal 2"), "{shown}");
    assert_eq!(read_report(&file)?["exit_status"], 40);
    Ok(())
}

/// A stream whose reader is gone.
fn closed_pipe() -> Result<std::io::PipeWriter> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    Ok(writer)
}

#[test]
fn a_reader_that_is_gone_is_no_error() -> Result<()> {
    let _live = live!();
    let cases: [(&[&str], i32); 5] = [
        (&["run", "--format", "json", "--", "true"], 0),
        // The command's own status all the same.
        (&["run", "--format", "json", "--", "sh", "-c", "exit 3"], 3),
        (&["lab", "--list"], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
    ];
    for (arguments, status) in cases {
        let output = Command::new(cowtrace())
            .args(arguments)
            .stdout(closed_pipe()?)
            .stderr(Stdio::piped())
            .output()?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), message.as_str()), (Some(status), ""), "{arguments:?}");
    }
    // The report for people goes to standard error.
    let status = tracer("run").args(["--", "true"]).stderr(closed_pipe()?).status()?;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

/// Ids of the BPF programs that a process holds.
fn held_programs(pid: i32) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // Descriptors come and go.
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Ids of all BPF programs of the machine.
fn loaded_programs() -> Vec<u32> {
    const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;
    let mut ids = Vec::new();
    // union bpf_attr: start_id, next_id, open_flags.
    let mut attr = [0u32; 4];
    loop {
        // SAFETY: a command that fills the second of these integers.
        let ret =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_NEXT_ID, &raw mut attr, size_of_val(&attr)) };
        if ret != 0 {
            return ids;
        }
        ids.push(attr[1]);
        attr[0] = attr[1];
    }
}

#[test]
fn a_tracer_that_is_killed_leaves_nothing_behind() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let went_on = place.path().join("went-on");
    let mut child = tracer("run")
        .args(["--", "sh", "-c", "echo ready; sleep 0.4; ls / > /dev/null; touch \"$0\""])
        .arg(&went_on)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let programs = held_programs(pid(&child)?)?;
    ensure!(!programs.is_empty(), "the tracer holds no BPF program");
    ensure!(programs.iter().all(|id| loaded_programs().contains(id)), "the list of programs is not complete");
    child.kill()?;
    child.wait()?;
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let left: Vec<_> = loaded_programs().into_iter().filter(|id| programs.contains(id)).collect();
        if left.is_empty() && went_on.exists() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "programs left: {left:?}; the command went on: {}", went_on.exists());
        sleep(Duration::from_millis(20));
    }
}
