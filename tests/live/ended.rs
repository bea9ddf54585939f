//! Sessions that last: of many processes that have ended few are kept one by one, and the sums stay exact.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Listener, MARKER_UID, Setting, counts_copies, cowtrace, found, live, number, processes, regions_sum_up,
    say, scratch, shell, skip, text, traced_as_marker, tracer,
};
use serde_json::Value;

/// 801 processes, over several seconds: whoever has just ended is kept.
const MANY: &str = "i=0; while [ $i -lt 400 ]; do /bin/true; sleep 0.01; i=$((i + 1)); done";

/// The sum of a figure over the processes, and over those that are only known by name.
fn sum(report: &Value, figure: &str) -> Result<u64> {
    let folded = report["folded"].as_array().map(Vec::as_slice).unwrap_or_default();
    processes(report)?.into_iter().chain(folded).map(|one| number(one, figure)).sum()
}

/// How many processes there were: those with a line, and those that are only in the sums.
fn count(report: &Value) -> Result<(u64, u64)> {
    let folded = report["folded"].as_array().map(Vec::as_slice).unwrap_or_default();
    let in_sums = folded.iter().map(|one| number(one, "/processes")).sum::<Result<u64>>()?;
    Ok((processes(report)?.len() as u64, in_sums))
}

#[test]
fn what_is_summed_up_is_what_the_kernel_counts() -> Result<()> {
    let _live = live!();
    if !counts_copies() {
        skip("what_is_summed_up_is_what_the_kernel_counts", "this kernel does not count copies");
        return Ok(());
    }
    let accounting = Setting::delay_accounting()?;
    let listener = Listener::start()?;
    let traced = traced_as_marker(&["--max-ended", "50"], &shell(MANY))?;
    let exited = listener.finish()?;
    drop(accounting);
    let report = traced.complete()?;
    regions_sum_up(&report)?;
    let (kept, folded) = count(&report)?;
    let ours: Vec<_> = exited.iter().filter(|process| process.uid == MARKER_UID).collect();
    say(&format!("{} processes: {kept} one by one, {folded} by name", ours.len()));
    assert_eq!(kept + folded, ours.len() as u64);
    // Half a second of them is left aside.
    ensure!(folded > 400 && kept < 400, "{kept} kept, {folded} by name");
    let theirs: u64 = ours.iter().filter_map(|process| process.wpcopy).sum();
    assert_eq!(sum(&report, "/wpcopy")?, theirs, "copies, as the kernel counts them");
    let names: Vec<&str> = report["folded"]
        .as_array()
        .context("no sums")?
        .iter()
        .filter_map(|one| one["comm"].as_str())
        .collect();
    ensure!(names.contains(&"true") && names.contains(&"sleep"), "{names:?}");
    // The shell has made all of them, and is still there by name.
    let forks = report["forks"].as_array().context("no forks")?.len() as u64;
    let in_sums: u64 = ["to_exec", "to_exit", "vforks"]
        .iter()
        .map(|kind| {
            let all = report["folded"].as_array().into_iter().flatten();
            all.map(|one| number(one, &format!("/forks/{kind}"))).sum::<Result<u64>>()
        })
        .sum::<Result<u64>>()?;
    assert_eq!(forks + in_sums, kept + folded - 1, "each process but the first was forked");
    Ok(())
}

#[test]
fn a_recording_has_them_all() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let file = place.path().join("recording");
    let path = |path: &Path| path.to_str().map(str::to_owned).context("a strange path");
    let file = path(&file)?;
    let output = tracer("record")
        .args(["--max-ended", "20", "--format", "json", "-o", &file, "--"])
        .args(shell(MANY))
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let output =
        std::process::Command::new(cowtrace()).args(["report", "--format", "json", &file]).output()?;
    ensure!(output.status.success(), "{output:?}");
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let ((kept, folded), (in_file, none)) = (count(&report)?, count(&all)?);
    say(&format!("{kept} one by one, {folded} by name; {in_file} in the file"));
    assert_eq!((none, all.get("folded")), (0, None), "the file has each of them");
    assert_eq!(in_file, kept + folded);
    ensure!(folded > 100, "{folded} by name");
    for figure in ["/wpcopy", "/copied_bytes", "/anon_bytes", "/faults/copy", "/faults/anon", "/faults/file"]
    {
        assert_eq!(sum(&report, figure)?, sum(&all, figure)?, "{figure}");
    }
    // Whoever is kept is in the file as in the report.
    let whole = processes(&all)?;
    for process in processes(&report)? {
        ensure!(whole.contains(&process), "{process} is another in the file");
    }
    assert_eq!(all["forks"].as_array().context("no forks")?.len() as u64, in_file - 1);
    let comm = |one: &Value| text(one, "/comm").map(str::to_owned);
    ensure!(
        whole.iter().filter(|one| comm(one).is_ok_and(|comm| comm == "true")).count() >= 300,
        "few of true"
    );
    if let Some(sqlite) = found("sqlite3") {
        // A fork has the number of the process that it made.
        let query = "SELECT count(*) FROM forks JOIN processes USING (id) WHERE child = pid";
        let output = std::process::Command::new(sqlite).args([&file, query]).output()?;
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), (in_file - 1).to_string());
    }
    Ok(())
}
