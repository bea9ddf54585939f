//! `--latency`: times of copies, held against the clock of the program that makes them, and against its time untraced.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    field, live, number, page_size, process, processes, say, scratch, shell, trace, tracer, workload,
};
use serde_json::Value;

/// Few, so that they are made in one time slice where others want the CPU as well.
const PAGES: u64 = 1000;
/// Something else on the machine may disturb a run.
const ROUNDS: usize = 30;

/// The time that the child of `cow-bench` says its copies took, ns.
fn own_clock(stdout: &[u8]) -> Result<u64> {
    let line: Value = serde_json::from_slice(stdout).context("cow-bench says nothing")?;
    number(&line, "/ns")
}

/// Faults that replaced a page, as counted.
fn replaced(process: &Value) -> u64 {
    let kinds = ["copy", "zero", "file", "ksm", "hugetlb"];
    kinds.iter().filter_map(|kind| process["faults"][kind].as_u64()).sum()
}

/// The median is no more than the 99th percentile, and that no more than the longest.
fn ordered(times: &Value) -> Result<()> {
    let of = |name: &str| number(times, &format!("/{name}"));
    ensure!(of("p50")? > 0 && of("p50")? <= of("p99")? && of("p99")? <= of("max")?, "{times}");
    ensure!(of("max")? <= of("total")? && of("total")? <= of("max")? * of("count")?, "{times}");
    Ok(())
}

#[test]
fn the_sum_is_what_the_programs_own_clock_says() -> Result<()> {
    let _live = live!();
    let pages = PAGES.to_string();
    let command = [workload().into_os_string(), "cow-bench".into(), pages.into()];
    let untraced = || own_clock(&Command::new(&command[0]).args(&command[1..]).output()?.stdout);
    let mut said = String::new();
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        for _ in 0..3 {
            best = best.min(untraced()?);
        }
        let place = scratch()?;
        let file = place.path().join("report.json");
        let output = tracer("run")
            .args(["--latency", "--format", "json", "-o"])
            .arg(&file)
            .arg("--")
            .args(&command)
            .output()?;
        let report: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        let child = process(&report, true)?;
        let times = field(child, "/cow_ns")?;
        ordered(times)?;
        assert_eq!(number(times, "/count")?, replaced(child));
        let (total, by_clock) = (number(times, "/total")?, own_clock(&output.stdout)?);
        // The few copies before the clock started are in the sum, and one of them may have waited for long.
        let slack = number(times, "/max")? * 10;
        ensure!(total <= by_clock + slack, "{total} ns, of {by_clock} that the program knows of");
        let p50 = number(times, "/p50")?;
        said = format!("{PAGES} copies: sum {total} ns, own clock {by_clock}, untraced {best}; p50 {p50}");
        // What is not in a fault's time: the processor's way into the kernel and back, and the hooks before and after.
        let usual = best / PAGES;
        if total * 3 >= by_clock && (usual * 2 / 5..usual * 4).contains(&p50) {
            say(&said);
            return Ok(());
        }
    }
    anyhow::bail!("{said}")
}

#[test]
fn each_copy_has_a_time() -> Result<()> {
    let _live = live!();
    let script = "for i in 1 2 3 4 5 6 7 8; do ls -lR /etc/ssl | sort | tail -1; (true); done";
    let report = trace(&["--latency"], &shell(script))?.complete()?;
    for process in processes(&report)? {
        let times = field(process, "/cow_ns")?;
        ensure!(number(times, "/count")? == replaced(process), "{process}");
        ordered(times)?;
    }
    let without = trace(&[], &shell("(true)"))?.complete()?;
    ensure!(processes(&without)?.iter().all(|process| process.get("cow_ns").is_none()), "not asked for");
    Ok(())
}

/// How often a fork is made until both sides copy.
const TRIES: usize = 10;

#[test]
fn both_sides_of_a_fork_have_their_times() -> Result<()> {
    let _live = live!();
    let command = [workload().into_os_string(), "parent-writes-page".into(), "16".into()];
    let mut report = Value::Null;
    // The child may come to its end before the parent writes: then the parent has nothing to copy.
    for _ in 0..TRIES {
        report = trace(&["--latency"], &command)?.complete()?;
        if number(&report, "/forks/0/parent_copied_bytes")? > 0 {
            break;
        }
    }
    let fork = field(&report, "/forks/0")?;
    let copied =
        |side: &str| Ok::<_, anyhow::Error>(number(fork, &format!("/{side}_copied_bytes"))? / page_size());
    for side in ["parent", "child"] {
        let times = field(fork, &format!("/{side}_cow_ns"))?;
        let count = number(times, "/count")?;
        // Private file pages and zero pages are in these times, and not in these bytes.
        ensure!(count >= copied(side)? && count <= copied(side)? + 5, "{side}: {fork}");
    }
    ensure!(copied("parent")? >= 1, "{fork}");
    ordered(field(fork, "/parent_cow_ns")?)?;
    let child = process(&report, true)?;
    assert_eq!(fork["child_cow_ns"], child["cow_ns"]);
    Ok(())
}

#[test]
fn each_line_of_a_trace_tells_its_time() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let file = place.path().join("lines");
    let output = tracer("trace")
        .args(["--latency", "--format", "json", "-o"])
        .arg(&file)
        .arg("--")
        .arg(workload())
        .args(["cow-write", "1000"])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(&file)?;
    let mut copies = 0;
    let mut last = Value::Null;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["kind"] == "copy" {
            copies += 1;
            ensure!(line["took_ns"].as_u64().is_some_and(|ns| ns > 0), "{line}");
        }
        last = line;
    }
    ensure!(copies >= 1000 && number(&last, "/counted/copy")? == copies, "{copies} copies: {last}");
    assert_eq!(last["lost_faults"], 0);
    Ok(())
}
