//! Each feature once, in one session each: what the matrix of kernels has the time to run with every backend.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    again_while_lost, cowtrace, finish, live, number, process, processes, program, scratch, send, top_region,
    trace, tracer, workload,
};
use serde_json::Value;

use crate::attach::{nothing_lost, waiting};

const LIMIT: Duration = Duration::from_secs(60);

/// Whether nothing was lost.
fn is_whole(report: &Value) -> bool {
    nothing_lost(report).is_ok()
}

/// Attached to while it runs, recorded, and reported from the file: 1,000 copies, each with its stack.
#[test]
fn a_running_program_is_recorded_with_its_stacks() -> Result<()> {
    let _live = live!();
    let record = || -> Result<(Value, u32)> {
        let place = scratch()?;
        let file = place.path().join("recording");
        let (subject, child) = waiting(1)?;
        let mut recorder = tracer("record")
            .args(["--stacks", "--format", "json", "-p", &subject.id().to_string(), "-o"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        BufReader::new(recorder.stderr.as_mut().context("no standard error")?).read_line(&mut said)?;
        ensure!(said.contains("attached to 2 processes with 3 threads"), "{said}");
        send(&subject, libc::SIGUSR1)?;
        ensure!(finish(subject, LIMIT)?.status.success(), "the program failed");
        let output = finish(recorder, LIMIT)?;
        let report: Value =
            serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {output:?}"))?;
        let again = Command::new(cowtrace()).args(["report", "--format", "json"]).arg(&file).output()?;
        let again: Value =
            serde_json::from_slice(&again.stdout).with_context(|| format!("no JSON: {again:?}"))?;
        assert_eq!(again, report, "field by field");
        Ok((report, child))
    };
    let (report, child) = again_while_lost(record, |(report, _)| is_whole(report))?;
    nothing_lost(&report)?;
    let child = processes(&report)?.into_iter().find(|process| process["pid"] == child);
    let child = child.context("no child")?;
    assert_eq!(number(top_region(child, "copy")?, "/faults/copy")?, 1000);
    let stacks = report["stacks"].as_array().context("no stacks")?;
    let of_copies = stacks.iter().filter(|stack| stack["pid"] == child["pid"] && stack["kind"] == "copy");
    let in_stacks: u64 = of_copies.clone().filter_map(|stack| stack["count"].as_u64()).sum();
    assert_eq!(in_stacks, number(child, "/faults/copy")?);
    let by_name: u64 = of_copies
        .filter(|stack| stack["frames"].as_array().is_some_and(|all| all.contains(&"write_pages".into())))
        .filter_map(|stack| stack["count"].as_u64())
        .sum();
    ensure!(by_name >= 1000, "{by_name} copies in the function that makes 1,000: {stacks:?}");
    Ok(())
}

/// Ten pages that three forks share anew: three copies each, and each of all copies has a time.
#[test]
fn pages_and_times_of_one_run() -> Result<()> {
    let _live = live!();
    let program = program()?;
    let command = [program.as_os_str(), "pages-by-parent".as_ref(), "30".as_ref(), "3".as_ref()];
    let traced = trace(&["--pages", "--latency"], &command)?;
    traced.nothing_lost()?;
    let parent = process(&traced.report, false)?;
    let repeated = parent["pages"]["repeated"].as_array().context("no repeated pages")?;
    let three: u64 = repeated
        .iter()
        .filter(|run| run["copies"] == 3 && run["why"] == "shared anew by 3 forks")
        .filter_map(|run| run["pages"].as_u64())
        .sum();
    ensure!(three >= 10, "{three} pages of 10: {repeated:?}");
    for process in processes(&traced.report)? {
        let replaced = ["copy", "zero", "file", "ksm", "hugetlb"];
        let replaced: u64 = replaced.iter().filter_map(|kind| process["faults"][kind].as_u64()).sum();
        assert_eq!(number(process, "/cow_ns/count")?, replaced, "{process}");
        ensure!(replaced == 0 || number(process, "/cow_ns/total")? > 0, "{process}");
    }
    Ok(())
}

/// 300 copies, a line each.
#[test]
fn a_line_for_each_copy() -> Result<()> {
    let _live = live!();
    let lines = || -> Result<Vec<Value>> {
        let place = scratch()?;
        let file = place.path().join("lines");
        let mut command = tracer("trace");
        command.args(["--format", "json", "-o"]).arg(&file).arg("--");
        let output = command.arg(workload()).args(["cow-write", "300"]).output()?;
        ensure!(output.status.success(), "{output:?}");
        let text = fs::read_to_string(&file)?;
        text.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
    };
    let lines = again_while_lost(lines, |lines| lines.last().is_some_and(is_whole))?;
    let summary = lines.last().context("no lines")?;
    nothing_lost(summary)?;
    let copies = lines.iter().filter(|line| line["kind"] == "copy").count() as u64;
    ensure!((300..320).contains(&copies), "{copies} lines for 300 copies");
    assert_eq!(number(summary, "/counted/copy")?, copies);
    Ok(())
}

/// As good as the kernel can prove it.
#[test]
fn a_run_is_verified() -> Result<()> {
    let _live = live!();
    let verified = || -> Result<Value> {
        let mut command = tracer("verify");
        command.args(["--format", "json", "--"]).arg(workload()).args(["cow-write", "300"]);
        let output = command.output()?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {output:?}"))
    };
    let report = again_while_lost(verified, is_whole)?;
    nothing_lost(&report)?;
    let rows = report["processes"].as_array().context("no processes")?;
    assert_eq!(rows.len(), 2);
    for row in rows {
        let verdict = row["verdict"].as_str().unwrap_or_default();
        ensure!(["exact", "bounded"].contains(&verdict), "{row}");
        if let Some(kernel) = row["kernel_wpcopy"].as_u64() {
            assert_eq!((verdict, number(row, "/wpcopy")?), ("exact", kernel), "{row}");
        }
    }
    Ok(())
}
