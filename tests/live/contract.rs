//! The JSON of a report is what DESIGN says, field by field.

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{backend, field, live, page_size, processes, text, trace, tracer, workload};
use serde_json::Value;

const KINDS: [&str; 10] =
    ["copy", "zero", "file", "ksm", "hugetlb", "pinned", "reuse", "shared", "anon", "denied"];

const BACKENDS: [&str; 3] = ["fentry", "kprobe", "tracepoint"];

fn has(value: &Value, pointer: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
    let found = field(value, pointer)?;
    ensure!(is(found), "{pointer} is {found}, which is no {what}");
    Ok(())
}

fn numbers(value: &Value, pointers: &[&str]) -> Result<()> {
    pointers.iter().try_for_each(|pointer| has(value, pointer, "number", Value::is_u64))
}

fn strings(value: &Value, pointers: &[&str]) -> Result<()> {
    pointers.iter().try_for_each(|pointer| has(value, pointer, "string", Value::is_string))
}

fn strings_in(value: &Value, pointer: &str) -> Result<()> {
    let all = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    has(value, pointer, "list of strings", all)
}

fn address(value: &Value, pointer: &str) -> Result<u64> {
    let digits = text(value, pointer)?.strip_prefix("0x").context("an address without 0x")?;
    Ok(u64::from_str_radix(digits, 16)?)
}

/// Every kind is there: a number, or `null` where the backend cannot know.
fn faults(value: &Value, backend: &str) -> Result<()> {
    let faults = value["faults"].as_object().context("faults is no object")?;
    let mut names: Vec<_> = faults.keys().map(String::as_str).collect();
    let mut expected = KINDS.to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    ensure!(names == expected, "kinds {names:?}");
    for (kind, count) in faults {
        let blind = backend == "tracepoint" && kind == "pinned";
        ensure!(if blind { count.is_null() } else { count.is_u64() }, "{kind} is {count}");
    }
    Ok(())
}

#[test]
fn a_report_has_every_field() -> Result<()> {
    let _live = live!();
    let traced = trace(&[], &[workload().as_os_str(), "cow-write".as_ref(), "100".as_ref(), "2".as_ref()])?;
    let report = &traced.report;
    assert_eq!(report["schema"], "cowtrace.report/1");
    strings(report, &["/kernel/release", "/kernel/arch", "/backend/name"])?;
    strings_in(report, "/backend/blind_to")?;
    strings_in(report, "/command")?;
    assert_eq!(report["command"][1], "cow-write");
    numbers(report, &["/kernel/page_size", "/duration_ns", "/exit_status"])?;
    numbers(report, &["/lost/events", "/lost/processes", "/lost/regions", "/lost/stacks"])?;
    let backend = text(report, "/backend/name")?;
    ensure!(BACKENDS.contains(&backend), "unknown backend {backend}");
    if let Some(wanted) = cowtrace_tests::backend().filter(|name| name != "auto") {
        assert_eq!(backend, wanted);
    }
    let blind = field(report, "/backend/blind_to")?.as_array().context("blind_to is no list")?;
    for what in ["gup", "pinned"] {
        assert_eq!(blind.iter().any(|name| name == what), backend == "tracepoint", "blind to {what}");
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    assert_eq!(report["kernel"]["release"], release.trim());

    let all = processes(report)?;
    assert_eq!(all.len(), 3);
    for process in &all {
        numbers(process, &["/pid", "/ppid", "/start_ns", "/end_ns", "/wpcopy", "/copied_bytes"])?;
        strings(process, &["/comm"])?;
        strings_in(process, "/cmdline")?;
        faults(process, backend)?;
        ensure!(process["start_ns"].as_u64() < process["end_ns"].as_u64(), "it ends after it starts");
        ensure!(process["end_ns"].as_u64() <= report["duration_ns"].as_u64(), "it ends in the session");
        let regions = process["regions"].as_array().context("regions is no list")?;
        ensure!(!regions.is_empty(), "no regions");
        for region in regions {
            let (start, end) = (address(region, "/start")?, address(region, "/end")?);
            let whole_pages = [start, end].iter().all(|address| address % page_size() == 0);
            ensure!(start < end && whole_pages, "{region}");
            let perms = text(region, "/perms")?.as_bytes();
            ensure!(perms.len() == 4 && perms.iter().all(|b| b"rwxps-".contains(b)), "perms {perms:?}");
            strings(region, &["/name"])?;
            faults(region, backend)?;
        }
    }
    assert_eq!(all[0]["forked_from"], Value::Null);
    assert_eq!(all[0]["ppid"].as_u64().map(|pid| pid > 0), Some(true));

    let forks = report["forks"].as_array().context("forks is no list")?;
    assert_eq!(forks.len(), 2);
    for (fork, child) in forks.iter().zip(&all[1..]) {
        numbers(fork, &["/parent", "/child", "/at_ns", "/page_table_kb", "/lifetime_ns"])?;
        numbers(fork, &["/parent_copied_bytes", "/child_copied_bytes", "/extra_peak_bytes"])?;
        has(fork, "/fork_ns", "number or null", |v| v.is_u64() || v.is_null())?;
        assert_eq!((&fork["parent"], &fork["child"]), (&all[0]["pid"], &child["pid"]));
        assert_eq!((&fork["kind"], &fork["ended_by"]), (&"fork".into(), &"exit".into()));
        assert_eq!(child["forked_from"], all[0]["pid"]);
        assert_eq!(fork["at_ns"], child["start_ns"]);
        let copied = child["faults"]["copy"].as_u64().map(|pages| pages * page_size());
        assert_eq!(fork["child_copied_bytes"].as_u64(), copied);
        ensure!(fork["page_table_kb"] != 0, "a fork copies page tables");
    }
    Ok(())
}

#[test]
fn standard_output_is_the_document_alone() -> Result<()> {
    let _live = live!();
    let output = tracer("run").args(["--format", "json", "--", "echo", "not the document"]).output()?;
    let report: Value =
        serde_json::from_slice(&output.stdout).context("standard output is no JSON document")?;
    assert_eq!(report["schema"], "cowtrace.report/1");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "not the document\n");
    Ok(())
}

#[test]
fn a_report_in_a_file_leaves_both_streams_to_the_command() -> Result<()> {
    let _live = live!();
    for format in ["json", "human"] {
        let traced = cowtrace_tests::scratch()?;
        let file = traced.path().join("report");
        let output = tracer("run")
            .args(["--format", format, "-o"])
            .arg(&file)
            .args(["--", "sh", "-c", "cat; echo out; echo err >&2; exit 7"])
            .stdin(std::process::Stdio::null())
            .output()?;
        assert_eq!(output.status.code(), Some(7), "the command's own status");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
        ensure!(file.metadata()?.len() > 0, "no report");
    }
    Ok(())
}

#[test]
fn the_command_gets_standard_input_and_the_report_its_status() -> Result<()> {
    let _live = live!();
    let traced = trace(&[], &cowtrace_tests::shell("exit 42"))?;
    assert_eq!(traced.output.status.code(), Some(42));
    assert_eq!(traced.report["exit_status"], 42);
    let place = cowtrace_tests::scratch()?;
    let input = place.path().join("input");
    std::fs::write(&input, "given\n")?;
    let output = tracer("run").args(["--", "cat"]).stdin(std::fs::File::open(&input)?).output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "given\n");
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let backend = backend().filter(|name| name != "auto");
    let names = backend.as_deref().map_or(BACKENDS.to_vec(), |name| vec![name]);
    ensure!(names.iter().any(|name| report.contains(name)), "no report for people: {report}");
    Ok(())
}
