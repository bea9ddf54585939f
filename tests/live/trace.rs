//! `trace`: a line for each fault, none missing; filters; readers that go away, or do not read.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Listener, Setting, counts_copies, field, finish, live, number, page_size, program, scratch, skip, text,
    tracer, workload,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// What a trace wrote as JSON Lines.
struct Lines {
    faults: Vec<Value>,
    lost: u64,
    summary: Value,
}

impl Lines {
    fn parse(text: &str) -> Result<Lines> {
        let mut lines = Lines { faults: Vec::new(), lost: 0, summary: Value::Null };
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
            ensure!(lines.summary.is_null(), "something follows the summary: {line}");
            match value["type"].as_str() {
                Some("fault") => lines.faults.push(value),
                Some("lost") => lines.lost += number(&value, "/events")?,
                Some("summary") => lines.summary = value,
                _ => ensure!(false, "what is {line}?"),
            }
        }
        ensure!(!lines.summary.is_null(), "no summary");
        Ok(lines)
    }

    /// Lines by kind.
    fn by_kind(&self) -> BTreeMap<&str, u64> {
        let mut kinds = BTreeMap::new();
        for kind in self.faults.iter().filter_map(|fault| fault["kind"].as_str()) {
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// Nothing was lost, and each fault of the given kinds that was counted has its line.
    fn complete(&self, kinds: &[&str]) -> Result<()> {
        let lost = field(&self.summary, "/lost")?.as_object().context("lost is no object")?;
        ensure!(lost.values().all(|count| count == 0) && self.lost == 0, "lost: {}", self.summary);
        let shown = self.by_kind();
        for kind in kinds {
            let counted = self.summary["counted"][kind].as_u64().unwrap_or(0);
            let lines = shown.get(kind).copied().unwrap_or(0);
            ensure!(lines == counted, "{lines} lines of {counted} {kind}");
        }
        Ok(())
    }
}

fn words<'a>(command: &'a [&'a str], program: &'a str) -> Vec<&'a str> {
    [program].into_iter().chain(command.iter().copied()).collect()
}

/// `cowtrace trace OPTIONS --format json -o FILE -- COMMAND`.
fn trace(options: &[&str], command: &[&str]) -> Result<(Lines, Output)> {
    let place = scratch()?;
    let file = place.path().join("lines");
    let output = tracer("trace")
        .args(options)
        .args(["--format", "json", "-o"])
        .arg(&file)
        .arg("--")
        .args(command)
        .output()?;
    let text = fs::read_to_string(&file).with_context(|| format!("no lines: {output:?}"))?;
    Ok((Lines::parse(&text).with_context(|| format!("{output:?}"))?, output))
}

const ALL: [&str; 10] =
    ["copy", "zero", "file", "ksm", "hugetlb", "pinned", "reuse", "shared", "anon", "denied"];

#[test]
fn each_copy_has_a_line() -> Result<()> {
    let _live = live!();
    const PAGES: u64 = 3000;
    let workload = workload();
    let workload = workload.to_str().context("a path that is not UTF-8")?;
    let _accounting = Setting::delay_accounting()?;
    let listener = Listener::start()?;
    let (lines, output) = trace(&["--kind", "all"], &words(&["cow-write", "3000", "2"], workload))?;
    let exited = listener.finish()?;
    ensure!(output.status.success(), "{output:?}");
    lines.complete(&ALL)?;
    let mut copying: Vec<u64> = Vec::new();
    for fault in lines.faults.iter().filter(|fault| fault["kind"] == "copy") {
        copying.extend(fault["pid"].as_u64().filter(|pid| !copying.contains(pid)));
    }
    let mut writers = 0;
    for pid in copying {
        let of_it: Vec<&Value> = lines.faults.iter().filter(|fault| fault["pid"] == pid).collect();
        let of_kind = |kinds: &[&str]| {
            of_it.iter().filter(|fault| kinds.iter().any(|kind| fault["kind"] == *kind)).count() as u64
        };
        let pages: Vec<u64> =
            of_it.iter().filter(|f| f["kind"] == "copy").map(|f| page(f)).collect::<Result<_>>()?;
        if pages.len() as u64 >= PAGES {
            writers += 1;
            // Its parent copies the page of its stack after each fork.
            ensure!(pages.len() == pages.iter().collect::<HashSet<_>>().len(), "a page was copied twice");
            ensure!(pages.len() as u64 <= PAGES + 10, "{} copies", pages.len());
            ensure!(of_kind(&["file"]) == 0, "a file's page in a child");
            if counts_copies() {
                let kernel =
                    exited.iter().find(|exited| u64::from(exited.pid) == pid).context("no record")?;
                ensure!(Some(of_kind(&["copy", "zero"])) == kernel.wpcopy, "{kernel:?}");
            }
        }
        let times: Vec<u64> = of_it.iter().map(|fault| number(fault, "/at_ns")).collect::<Result<_>>()?;
        ensure!(times.iter().all(|&at_ns| at_ns > 0 && at_ns < 120_000_000_000), "{times:?}");
    }
    assert_eq!(writers, 2);
    if !counts_copies() {
        skip("each_copy_has_a_line", "(in part) this kernel does not count copies");
    }
    Ok(())
}

fn page(fault: &Value) -> Result<u64> {
    let address = text(fault, "/address")?;
    let digits = address.strip_prefix("0x").context("no address")?;
    Ok(u64::from_str_radix(digits, 16)? / page_size())
}

#[test]
fn lines_tell_the_function_and_the_region_and_can_be_chosen_by_them() -> Result<()> {
    let _live = live!();
    let program = program()?;
    let program = program.to_str().context("a path that is not UTF-8")?;
    let command = words(&["stacks", "300", "700"], program);
    let (lines, _) = trace(&["--symbol", "alpha"], &command)?;
    assert_eq!(lines.by_kind(), BTreeMap::from([("copy", 300)]));
    for fault in &lines.faults {
        assert_eq!((&fault["function"], &fault["writer"]), (&"alpha".into(), &"user".into()), "{fault}");
        assert_eq!((text(fault, "/region/perms")?, text(fault, "/comm")?), ("rw-p", "subjects"));
    }
    ensure!(number(&lines.summary, "/filtered")? >= 700, "{}", lines.summary);
    let (lines, _) = trace(&["--region", "[stack]"], &command)?;
    ensure!(!lines.faults.is_empty() && lines.faults.len() < 20, "{} lines", lines.faults.len());
    ensure!(lines.faults.iter().all(|fault| fault["region"]["name"] == "[stack]"), "{:?}", lines.faults);
    let (lines, _) = trace(&["--kind", "anon,zero", "--no-regions"], &command)?;
    ensure!(
        lines.faults.iter().all(|fault| fault["kind"] == "anon" || fault["kind"] == "zero"),
        "other kinds"
    );
    ensure!(lines.faults.iter().all(|fault| fault["region"].is_null()), "regions");
    lines.complete(&["anon", "zero"])
}

#[test]
fn the_kernel_writes_on_a_programs_behalf() -> Result<()> {
    let _live = live!();
    let workload = workload();
    let workload = workload.to_str().context("a path that is not UTF-8")?;
    let (lines, _) = trace(&["--symbol", "read"], &words(&["kernel-write", "200"], workload))?;
    let by_kernel = lines.faults.iter().filter(|f| f["writer"] == "kernel" && f["kind"] == "copy").count();
    ensure!((200..210).contains(&by_kernel), "{by_kernel} of 200 pages");
    Ok(())
}

#[test]
fn a_limit_ends_it_and_the_command_runs_on() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let mark = place.path().join("mark");
    let script = format!("ls / >/dev/null; sleep 1; echo on > {}", mark.display());
    let (lines, output) = trace(&["--limit", "7"], &["sh", "-c", &script])?;
    assert_eq!((lines.faults.len(), output.status.code()), (7, Some(0)));
    ensure!(String::from_utf8_lossy(&output.stderr).contains("runs on, untraced"), "{output:?}");
    let end = Instant::now() + LIMIT;
    while !mark.exists() {
        ensure!(Instant::now() < end, "the command was ended");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn people_read_columns_beside_the_commands_own_output() -> Result<()> {
    let _live = live!();
    let output = tracer("trace").args(["--", "sh", "-c", "(true); echo out; exit 3"]).output()?;
    assert_eq!((output.status.code(), &*output.stdout), (Some(3), &b"out\n"[..]));
    let text = String::from_utf8(output.stderr)?;
    let mut lines = text.lines();
    ensure!(lines.next().is_some_and(|line| line.starts_with("    TIME s         PID COMM")), "{text}");
    ensure!(lines.any(|line| line.contains(" copy ") && line.contains("+0x")), "{text}");
    ensure!(text.lines().last().is_some_and(|line| line.ends_with("; none lost")), "{text}");
    Ok(())
}

#[test]
fn a_reader_that_goes_away_ends_it() -> Result<()> {
    let _live = live!();
    let mut subject = Command::new("sh").args(["-c", "while :; do (true); done"]).spawn()?;
    let mut trace = tracer("trace")
        .args(["-p", &subject.id().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut read = 0;
    for line in BufReader::new(trace.stdout.take().context("no standard output")?).lines().take(5) {
        read += usize::from(line?.len() > 20);
    }
    let output = finish(trace, LIMIT);
    subject.kill()?;
    subject.wait()?;
    let output = output?;
    assert_eq!((read, output.status.code()), (5, Some(0)));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.lines().count() == 1 && said.contains("attached to "), "{said}");
    Ok(())
}

/// Whether the only child of a process has ended.
fn child_has_ended(process: &Child) -> Option<bool> {
    let pid = process.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
    Some(stat.rsplit(')').next()?.trim_start().starts_with('Z'))
}

/// Nobody reads while 300,000 pages are copied: what finds no room is counted, to the last one.
#[test]
fn what_comes_too_fast_is_counted() -> Result<()> {
    let _live = live!();
    let mut trace = tracer("trace")
        .args(["--format", "json", "--"])
        .arg(workload())
        .args(["cow-write", "20000", "15"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let end = Instant::now() + LIMIT;
    // Before it is started there is none.
    while child_has_ended(&trace) != Some(true) && trace.try_wait()?.is_none() {
        ensure!(Instant::now() < end, "the command still runs");
        thread::sleep(Duration::from_millis(20));
    }
    let output = trace.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = Lines::parse(std::str::from_utf8(&output.stdout)?)?;
    let lost = number(&lines.summary, "/lost_faults")?;
    ensure!(lost > 0 && lost == lines.lost, "{lost} lost, {} in lines", lines.lost);
    let shown = lines.faults.len() as u64;
    assert_eq!(shown, number(&lines.summary, "/shown")?);
    let kinds = ["copy", "zero", "file", "ksm", "hugetlb", "pinned"];
    let counted: u64 = kinds.iter().filter_map(|kind| lines.summary["counted"][kind].as_u64()).sum();
    ensure!(counted > 300_000 && shown + lost == counted, "{shown} + {lost} of {counted}");
    ensure!(String::from_utf8_lossy(&output.stderr).contains("LOST"), "people are not told");
    Ok(())
}

#[test]
fn wrong_options_are_refused() -> Result<()> {
    for words in [
        &["--kind", "cow", "--", "true"][..],
        &["--limit", "0", "--", "true"],
        &["-p", "1", "--", "true"],
        &["--no-regions", "--region", "x", "--", "true"],
        &["-d", "1", "--", "true"],
        &[],
    ] {
        let output = tracer("trace").args(words).output()?;
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{words:?}: {output:?}");
    }
    Ok(())
}
