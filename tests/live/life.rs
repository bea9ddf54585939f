//! Processes with unusual lives: none is missed, none is counted as another.

use std::{
    ffi::OsString,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Exited, Listener, Setting, Traced, compare, counts_copies, field, forks_sum_up, live, number, page_size,
    process, processes, program, regions_sum_up, say, skip, top_region, trace, workload,
};
use serde_json::Value;

/// Compared with the kernel's counts.
fn traced(options: &[&str], program: OsString, arguments: &[&str]) -> Result<(Traced, Vec<Exited>)> {
    let (traced, exited) = traced_alone(options, program, arguments)?;
    compare(&traced.report, &exited)?.exact()?;
    Ok((traced, exited))
}

/// The same of a program with threads, where the kernel tells whose they are.
fn traced_with_threads(arguments: &[&str]) -> Result<(Traced, Vec<Exited>)> {
    let (traced, exited) = traced_alone(&[], program()?.into_os_string(), arguments)?;
    if counts_copies() {
        compare(&traced.report, &exited)?.exact()?;
    } else {
        skip(
            &arguments.join(" "),
            "(its comparison) this kernel does not tell whose a thread is when it ends",
        );
    }
    Ok((traced, exited))
}

fn traced_alone(options: &[&str], program: OsString, arguments: &[&str]) -> Result<(Traced, Vec<Exited>)> {
    let _accounting = Setting::delay_accounting()?;
    let listener = Listener::start()?;
    let mut command = vec![program];
    command.extend(arguments.iter().map(OsString::from));
    let traced = trace(options, &command)?;
    traced.nothing_lost()?;
    let exited = listener.finish()?;
    regions_sum_up(&traced.report)?;
    forks_sum_up(&traced.report)?;
    Ok((traced, exited))
}

fn subject(arguments: &[&str]) -> Result<Value> {
    traced(&[], program()?.into_os_string(), arguments)?.0.complete()
}

fn copies(process: &Value) -> Result<u64> {
    number(top_region(process, "copy")?, "/faults/copy")
}

#[test]
fn a_reused_id_is_two_processes() -> Result<()> {
    let _live = live!();
    let (traced, _) = traced(&[], program()?.into_os_string(), &["reuse-pid"])?;
    let pid: u64 = String::from_utf8_lossy(&traced.output.stdout).trim().parse()?;
    if pid == 0 {
        skip("pid reuse", "in 200 attempts another process took the id each time");
        return Ok(());
    }
    let both: Vec<_> = processes(&traced.report)?.into_iter().filter(|p| p["pid"] == pid).collect();
    let counts = both.iter().map(|process| copies(process)).collect::<Result<Vec<_>>>()?;
    assert_eq!(counts, [300, 700], "process id {pid}");
    let forks = traced.report["forks"].as_array().context("no forks")?;
    assert_eq!(forks.iter().filter(|fork| fork["child"] == pid).count(), 2);
    for fork in forks {
        let at_least = if fork["child"] == pid { 300 * page_size() } else { 0 };
        ensure!(number(fork, "/child_copied_bytes")? >= at_least, "{fork}");
    }
    Ok(())
}

#[test]
fn a_thread_that_execs_takes_over_its_process() -> Result<()> {
    let _live = live!();
    let report = traced_with_threads(&["exec-by-thread"])?.0.complete()?;
    assert_eq!(processes(&report)?.len(), 2);
    let parent = process(&report, false)?;
    assert_eq!(parent["cmdline"][1], "fork-write");
    let child = process(&report, true)?;
    assert_eq!(child["forked_from"], parent["pid"]);
    assert_eq!(copies(child)?, 100);
    Ok(())
}

#[test]
fn a_process_goes_on_without_its_first_thread() -> Result<()> {
    let _live = live!();
    let report = traced_with_threads(&["leader-leaves", "300"])?.0.complete()?;
    assert_eq!(copies(process(&report, true)?)?, 300);
    Ok(())
}

#[test]
fn a_zombie_is_complete() -> Result<()> {
    let _live = live!();
    let report = subject(&["zombie", "200"])?;
    let child = process(&report, true)?;
    assert_eq!(copies(child)?, 200);
    let (end, parents_end) = (number(child, "/end_ns")?, number(process(&report, false)?, "/end_ns")?);
    ensure!(end + 100_000_000 < parents_end, "the child ended when it exited, not when it was forgotten");
    Ok(())
}

#[test]
fn a_parent_that_exits_before_its_child_has_its_copies_in_the_bill() -> Result<()> {
    let _live = live!();
    let report = subject(&["leave-first", "300"])?;
    let parent = process(&report, false)?;
    let fork = field(&report, "/forks/0")?;
    let bytes = number(fork, "/parent_copied_bytes")?;
    // The few others are of its stack and of libraries, and some of them from before the fork.
    let copied = number(parent, "/faults/copy")? * page_size();
    assert!((300 * page_size()..=copied).contains(&bytes), "{bytes} of {copied} in {fork:#}");
    Ok(())
}

#[test]
fn each_of_many_forks_has_the_pages_of_its_own_time() -> Result<()> {
    let _live = live!();
    if !counts_copies() {
        skip("each_of_many_forks_has_the_pages_of_its_own_time", "this kernel does not count copies");
        return Ok(());
    }
    // The parent writes 100 pages after each fork, and forks again as soon as the child is gone.
    let report = subject(&["pages-by-parent", "300", "40"])?;
    let forks = field(&report, "/forks")?.as_array().context("forks is no list")?;
    assert_eq!(forks.len(), 40);
    for fork in forks {
        let pages = number(fork, "/regions/0/parent_copied_bytes")? / page_size();
        // Of a thread's last fault, hooks inside faults learn at its next one that it is over: after the fork's end here.
        assert!((99..=100).contains(&pages), "{pages} pages: {fork:#}");
    }
    Ok(())
}

#[test]
fn vfork_copies_nothing() -> Result<()> {
    let _live = live!();
    let report = subject(&["vfork-exec", "500"])?;
    let fork = &report["forks"][0];
    assert_eq!((&fork["kind"], &fork["ended_by"]), (&"vfork".into(), &"exec".into()));
    assert_eq!(number(fork, "/child_copied_bytes")? + number(fork, "/parent_copied_bytes")?, 0);
    assert_eq!(fork["page_table_kb"], Value::Null);
    let child = process(&report, true)?;
    assert_eq!(number(child, "/faults/copy")?, 0);
    assert_eq!(child["comm"], "true");
    Ok(())
}

#[test]
fn a_tree_of_forks() -> Result<()> {
    let _live = live!();
    let (traced, _) = traced(&[], workload().into_os_string(), &["fork-tree", "6"])?;
    let report = traced.complete()?;
    assert_eq!(processes(&report)?.len(), 127);
    let forks = report["forks"].as_array().context("no forks")?;
    assert_eq!(forks.len(), 126);
    for fork in forks {
        assert_eq!((&fork["kind"], &fork["ended_by"]), (&"fork".into(), &"exit".into()));
        ensure!(
            processes(&report)?.iter().any(|p| p["pid"] == fork["parent"]),
            "a parent is missing: {fork}"
        );
    }
    for child in processes(&report)?.into_iter().skip(1) {
        ensure!(number(child, "/faults/copy")? >= 1, "each writes the page: {child}");
    }
    Ok(())
}

#[test]
fn a_chain_of_execs_is_one_process() -> Result<()> {
    let _live = live!();
    let (traced, _) = traced(&[], workload().into_os_string(), &["exec-chain", "20"])?;
    let report = traced.complete()?;
    let only = process(&report, false)?;
    assert_eq!(processes(&report)?.len(), 1);
    assert_eq!(number(only, "/faults/copy")?, 0);
    // Each program has its own mappings, at its own addresses.
    ensure!(number(only, "/faults/anon")? >= 20 * 5, "{}", only["faults"]);
    Ok(())
}

/// How long the daemon lives that is waited for, and the one that is not: longer than a session, also on a slow machine.
const DELAY_MS: u64 = 1500;
const LONG_DELAY_MS: u64 = 30_000;

#[test]
fn a_daemon_is_waited_for() -> Result<()> {
    let _live = live!();
    let start = Instant::now();
    let report = subject(&["daemonise", "300", &DELAY_MS.to_string()])?;
    ensure!(start.elapsed() >= Duration::from_millis(DELAY_MS), "the report came before the daemon's end");
    let all = processes(&report)?;
    assert_eq!(all.len(), 3);
    // By then it is the only one that has the pages: no copy is due. The kernel still copies those that wait in another
    // CPU's batch for the LRU list, as the batch holds a reference; either way each page faults once.
    let memory = top_region(all[2], "reuse")?;
    assert_eq!(number(memory, "/faults/reuse")? + number(memory, "/faults/copy")?, 300);
    ensure!(all.iter().all(|process| process["end_ns"].is_u64()), "all have ended");
    Ok(())
}

#[test]
fn a_daemon_is_left_alone_if_asked_for() -> Result<()> {
    let _live = live!();
    let start = Instant::now();
    let words = ["daemonise", "300", &LONG_DELAY_MS.to_string()];
    let (traced, _) = traced(&["--no-follow"], program()?.into_os_string(), &words)?;
    let took = start.elapsed();
    ensure!(took < Duration::from_millis(LONG_DELAY_MS), "the report came only after {took:?}");
    let report = traced.complete()?;
    let daemon = processes(&report)?.into_iter().find(|process| process["end_ns"].is_null());
    let daemon = daemon.context("the daemon is not in the report, or has an end")?;
    let fork =
        report["forks"].as_array().and_then(|forks| forks.iter().find(|f| f["child"] == daemon["pid"]));
    let fork = fork.context("no fork of the daemon")?;
    assert_eq!((&fork["ended_by"], &fork["lifetime_ns"]), (&"running".into(), &Value::Null));
    // It lives on without us; nobody waits for its end.
    let pid = number(daemon, "/pid")?;
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    assert_eq!(comm.trim(), "subjects");
    // SAFETY: plain integers; the process has the name of this test's program, which it is as long as it is not reaped.
    unsafe { libc::kill(i32::try_from(pid)?, libc::SIGKILL) };
    let end = Instant::now() + Duration::from_secs(5);
    while std::path::Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < end {
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn two_thousand_short_threads() -> Result<()> {
    let _live = live!();
    let (traced, exited) = traced_with_threads(&["thread-storm", "2000"])?;
    let report = traced.complete()?;
    let only = process(&report, false)?;
    if counts_copies() {
        let of_it = |exited: &&Exited| Some(u64::from(exited.pid)) == only["pid"].as_u64();
        let kernel = exited.iter().find(of_it).context("no exit")?;
        assert_eq!(kernel.threads, 2001);
        say(&format!("2,000 threads: wpcopy {:?} for both", kernel.wpcopy));
    }
    assert_eq!(processes(&report)?.len(), 1);
    Ok(())
}
