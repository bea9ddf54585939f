//! Which code made the copies: stacks of a program whose functions write known numbers of pages.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Attached, field, finish, live, number, page_size, process, processes, program, scratch, shell, text,
    trace, tracer, workload,
};
use serde_json::Value;

use crate::attach::{children, until};

/// The kinds that are counted by stack.
const KINDS: [&str; 6] = ["copy", "zero", "file", "ksm", "hugetlb", "pinned"];

fn stacks(report: &Value) -> Result<&Vec<Value>> {
    field(report, "/stacks")?.as_array().context("stacks is no list")
}

fn frames(stack: &Value) -> Vec<&str> {
    stack["frames"].as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Every copy that is counted is in a stack of its process and kind.
fn sum_up(report: &Value) -> Result<()> {
    for process in processes(report)? {
        for kind in KINDS {
            let of_it = |stack: &&Value| stack["pid"] == process["pid"] && stack["kind"] == kind;
            let pages: u64 =
                stacks(report)?.iter().filter(of_it).filter_map(|stack| stack["count"].as_u64()).sum();
            let counted = process["faults"][kind].as_u64().unwrap_or(0);
            ensure!(pages == counted, "{pages} of {counted} {kind} in stacks of {}", process["pid"]);
        }
    }
    let pages: u64 = stacks(report)?.iter().filter_map(|stack| stack["count"].as_u64()).sum();
    assert_eq!(number(report, "/stack_frames/pages")?, pages);
    Ok(())
}

#[test]
fn each_function_has_the_pages_that_it_wrote() -> Result<()> {
    let _live = live!();
    let program = program()?;
    let command = [program.as_os_str(), "stacks".as_ref(), "300".as_ref(), "700".as_ref()];
    for options in [&["--stacks"][..], &["--stacks", "--no-regions"]] {
        let report = trace(options, &command)?.complete()?;
        sum_up(&report)?;
        let child = process(&report, true)?;
        for (name, pages) in [("alpha", 300), ("beta", 700)] {
            let inside = |stack: &&Value| frames(stack).contains(&name);
            let of_name: Vec<&Value> = stacks(&report)?.iter().filter(inside).collect();
            let counts: Vec<Option<u64>> = of_name.iter().map(|stack| stack["count"].as_u64()).collect();
            assert_eq!(counts, [Some(pages)], "{name}: {of_name:?}");
            let stack = of_name[0];
            assert_eq!((&stack["pid"], &stack["kind"]), (&child["pid"], &"copy".into()));
            // The program that wrote, not the one that the process became.
            assert_eq!((text(stack, "/comm")?, text(child, "/comm")?), ("subjects", "true"));
            let tail = ["main", "stacks", "write_from_two_places", name];
            ensure!(frames(stack).ends_with(&tail), "{stack}");
        }
    }
    Ok(())
}

/// As a worker that is forked before anybody looks: its own file for perf does not have what its parent made.
/// Bytes that a fork's parent and child copied in stacks with this function.
fn of_fork(fork: &Value, function: &str) -> (u64, u64) {
    let stacks: Vec<&Value> = fork["stacks"].as_array().into_iter().flatten().collect();
    let sum = |side: &str| {
        let inside = stacks.iter().filter(|stack| frames(stack).contains(&function));
        inside.filter_map(|stack| stack[side].as_u64()).sum()
    };
    (sum("parent_copied_bytes"), sum("child_copied_bytes"))
}

#[test]
fn each_fork_has_the_stacks_of_its_time() -> Result<()> {
    let _live = live!();
    let program = program()?;
    let page = page_size();
    for backend_options in [&["--stacks"][..], &["--stacks", "--no-regions"]] {
        let traced = trace(backend_options, &[program.as_os_str(), "fork-stacks".as_ref()])?;
        let report = traced.complete()?;
        sum_up(&report)?;
        let forks = field(&report, "/forks")?.as_array().context("forks is no list")?;
        assert_eq!(forks.len(), 2);
        // The child whose functions wrote is the second; the parent's pages are known by the functions that it calls.
        let expected = [("alpha", 200, 0), ("beta", 300, 0), ("alpha", 50, 0), ("beta", 300, 70)];
        for (place, (function, by_parent, by_child)) in expected.into_iter().enumerate() {
            let fork = &forks[place / 2];
            let bytes = of_fork(fork, function);
            assert_eq!(bytes, (by_parent * page, by_child * page), "{function} in fork {place}: {fork:#}");
        }
        for fork in forks {
            for side in ["parent_copied_bytes", "child_copied_bytes"] {
                let stacks = fork["stacks"].as_array().context("stacks of a fork")?;
                let sum: u64 = stacks.iter().filter_map(|stack| stack[side].as_u64()).sum();
                // All of them: the few stacks find room.
                assert!(stacks.len() < 10 && Some(sum) == fork[side].as_u64(), "{side}: {fork:#}");
            }
        }
    }
    Ok(())
}

#[test]
fn code_that_the_parent_made_has_its_name_after_attaching_to_both() -> Result<()> {
    let _live = live!();
    let subject = Command::new(program()?).args(["made-code", "200"]).spawn()?;
    let parent = subject.id();
    let map = format!("/tmp/perf-{parent}.map");
    let child = until("child", || children(parent).first().copied())?;
    let attached = Attached::to(&["-p", &parent.to_string(), "--stacks"]);
    // SAFETY: a child that is not reaped yet.
    ensure!(unsafe { libc::kill(parent.cast_signed(), libc::SIGUSR1) } == 0, "no signal can be sent");
    let ended = finish(subject, Duration::from_secs(60));
    let report = attached.and_then(Attached::report);
    fs::remove_file(map)?;
    ensure!(ended?.status.success(), "the program failed");
    let report = report?;
    sum_up(&report)?;
    let inside = |stack: &&Value| stack["pid"] == child && frames(stack).last() == Some(&"made_at_run_time");
    let counts: Vec<_> = stacks(&report)?.iter().filter(inside).map(|stack| &stack["count"]).collect();
    assert_eq!(counts, [200], "{}", report["stacks"]);
    Ok(())
}

/// Another program of the same name lies at its path now, as after an upgrade.
#[test]
fn a_program_that_was_replaced_has_its_own_functions() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let path = place.path().join("server");
    fs::copy(program()?, &path)?;
    let mut server = Command::new(&path)
        .args(["write-on-line", "200"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the copy")?;
    let report = report_of_replaced(&mut server, &path);
    // Nobody writes to its standard input any more.
    let ended = server.wait()?;
    let report = report?;
    ensure!(ended.success(), "{ended:?}");
    let of_alpha = stacks(&report)?.iter().filter(|stack| frames(stack).last() == Some(&"alpha"));
    let counts: Vec<_> = of_alpha.map(|stack| &stack["count"]).collect();
    assert_eq!(counts, [200], "{}", report["stacks"]);
    Ok(())
}

fn report_of_replaced(server: &mut Child, path: &Path) -> Result<Value> {
    let mut said = BufReader::new(server.stdout.take().context("no standard output")?).lines();
    let mut ask = server.stdin.take().context("no standard input")?;
    ensure!(said.next().context("it has ended")?? == "ready");
    fs::remove_file(path)?;
    fs::copy("/bin/true", path)?;
    let attached = Attached::to(&["--stacks", "-p", &server.id().to_string()])?;
    writeln!(ask)?;
    ensure!(said.next().context("it has ended")?? == "written");
    attached.interrupt()?;
    attached.report()
}

#[test]
fn stacks_of_many_processes_sum_up() -> Result<()> {
    let _live = live!();
    let script = "for i in 1 2 3 4 5 6 7 8; do ls -lR /etc/ssl | sort | tail -1; (true); done";
    let report = trace(&["--stacks"], &shell(script))?.complete()?;
    sum_up(&report)?;
    for stack in stacks(&report)? {
        ensure!(!frames(stack).is_empty() && !text(stack, "/comm")?.is_empty(), "{stack}");
    }
    Ok(())
}

#[test]
fn files_for_flame_graphs_are_written() -> Result<()> {
    let _live = live!();
    let directory = scratch()?;
    let (folded, graph) = (directory.path().join("folded"), directory.path().join("graph.svg"));
    let options =
        ["--folded".as_ref(), folded.as_os_str(), "--flamegraph".as_ref(), graph.as_os_str(), "--".as_ref()];
    let output = tracer("run")
        .args(options)
        .args([program()?.as_os_str(), "stacks".as_ref(), "30".as_ref(), "70".as_ref()])
        .output()?;
    let human = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && human.contains("\nstacks   "), "{human}");
    ensure!(human.contains("beta ← write_from_two_places ← stacks ← main"), "{human}");
    let text = fs::read_to_string(&folded)?;
    let line = |tail: &str| text.lines().any(|line| line.starts_with("subjects;") && line.ends_with(tail));
    ensure!(line("stacks;write_from_two_places;alpha 30"), "{text}");
    ensure!(line("stacks;write_from_two_places;beta 70"), "{text}");
    ensure!(fs::read_to_string(&graph)?.contains("beta (70 pages"), "no beta in the flame graph");
    Ok(())
}

#[test]
fn without_the_option_there_are_no_stacks() -> Result<()> {
    let _live = live!();
    let report = trace(&[], &[workload().as_os_str(), "cow-write".as_ref(), "10".as_ref()])?.complete()?;
    ensure!(report.get("stacks").is_none() && report.get("stack_frames").is_none(), "{report}");
    let output = tracer("run").args(["--folded", "/no/such/directory/x", "--", "echo", "ran"]).output()?;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    Ok(())
}
