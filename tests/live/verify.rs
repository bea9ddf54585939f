//! `cowtrace verify`: what it proves, what it finds, and that it leaves the kernel as it was.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Listener, Setting, cowtrace, field, finish, found, live, number, program, rounds, say, scratch,
    shared_copy, shell, skip, text, tracer, workload,
};
use serde_json::Value;

const ACCOUNTING: &str = "/proc/sys/kernel/task_delayacct";
const SOON: Duration = Duration::from_secs(20);

fn accounting() -> Result<String> {
    Ok(fs::read_to_string(ACCOUNTING)?.trim().to_owned())
}

/// `cowtrace verify OPTIONS -- COMMAND`, as people see it.
fn verify<S: AsRef<std::ffi::OsStr>>(options: &[&str], command: &[S]) -> Result<Output> {
    Ok(tracer("verify").args(options).arg("--").args(command).process_group(0).output()?)
}

/// The same as JSON, with the exit status.
fn verified<S: AsRef<std::ffi::OsStr>>(options: &[&str], command: &[S]) -> Result<(Value, Option<i32>)> {
    let place = scratch()?;
    let file = place.path().join("verify.json");
    let name = file.to_str().context("a path that is not UTF-8")?;
    let output = verify(&[options, &["--format", "json", "-o", name]].concat(), command)?;
    let text = fs::read_to_string(&file).with_context(|| format!("no report; cowtrace says {output:?}"))?;
    let report = serde_json::from_str(&text).with_context(|| format!("no JSON; cowtrace says {output:?}"))?;
    Ok((report, output.status.code()))
}

fn rows(report: &Value) -> Result<&Vec<Value>> {
    field(report, "/processes")?.as_array().context("processes is no list")
}

fn oracle<'a>(report: &'a Value, name: &str) -> Result<&'a Value> {
    let oracles = field(report, "/oracles")?.as_array().context("oracles is no list")?;
    oracles.iter().find(|oracle| oracle["name"] == name).with_context(|| format!("no oracle {name}"))
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

/// What the kernel cannot tell, it cannot prove: on kernels before 5.19 the best outcome is another one.
fn best_outcome(report: &Value) -> Result<&'static str> {
    let has_count = oracle(report, "wpcopy_count")?["available"] == true;
    Ok(if has_count { "exact" } else { "bounded" })
}

#[test]
fn a_shell_with_many_commands_is_exact() -> Result<()> {
    let _live = live!();
    let script = "i=0
        while [ $i -lt 60 ]; do
            /bin/true; /bin/echo $i | cat > /dev/null; x=$(expr $i + 1); i=$((i + 1))
        done
        ls -lR /etc > /dev/null 2>&1; :";
    let accounting = Setting::delay_accounting()?;
    let listener = Listener::start()?;
    let (report, status) = verified(&[], &shell(script))?;
    let exited = listener.finish()?;
    drop(accounting);
    let best = best_outcome(&report)?;
    let rows = rows(&report)?;
    let others: Vec<_> = rows.iter().filter(|row| row["verdict"] != best).collect();
    let verdict = &report["totals"]["verdict"];
    assert_eq!((status, verdict), (Some(0), &best.into()), "lost {}: {others:#?}", report["lost"]);
    ensure!(rows.len() > 60 * 4 + 1, "only {} processes", rows.len());
    assert_eq!(number(&report, &format!("/totals/{best}"))?, rows.len() as u64);
    assert_eq!(report["totals"]["wpcopy"], report["totals"]["kernel_wpcopy"]);
    // The kernel's figures are what the tests' own listener has heard.
    for row in rows {
        let theirs: Vec<_> =
            exited.iter().filter(|process| Some(u64::from(process.pid)) == row["pid"].as_u64()).collect();
        let known = theirs.iter().any(|process| {
            row["kernel_wpcopy"].as_u64() == process.wpcopy
                && row["minor_faults"] == process.minflt
                && row["major_faults"] == process.majflt
        });
        ensure!(known, "{row}: the kernel says {theirs:?}");
    }
    say(&format!("verify: {} processes, {} copies", rows.len(), report["totals"]["wpcopy"]));
    Ok(())
}

#[test]
fn people_get_a_table_and_one_last_line() -> Result<()> {
    let _live = live!();
    let output = verify(&[], &["true"])?;
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let line = last_line(&output);
    ensure!(
        line.starts_with("exact: 1 process, ") || line.starts_with("not contradicted: 1 process"),
        "{shown}"
    );
    for word in
        ["pid", "comm", "verdict", "true", "wpcopy_count", "minor_faults", "cow_ksm", "--ledger T1,T2"]
    {
        ensure!(shown.contains(word), "no {word} in {shown}");
    }
    ensure!(output.stdout.is_empty(), "standard output is the command's alone");
    // The command's own status does not decide.
    let output = verify(&[], &shell("exit 7"))?;
    assert_eq!(output.status.code(), Some(0));
    ensure!(String::from_utf8_lossy(&output.stderr).contains("exit status 7"), "{output:?}");
    Ok(())
}

#[test]
fn many_processes_are_summed_up() -> Result<()> {
    let _live = live!();
    let output = verify(&[], &[workload().as_os_str(), "fork-tree".as_ref(), "6".as_ref()])?;
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    ensure!(
        shown.contains("127 more") && shown.contains("127 processes") && shown.lines().count() < 20,
        "{shown}"
    );
    Ok(())
}

#[test]
fn the_json_has_every_field() -> Result<()> {
    let _live = live!();
    let (report, _) = verified(&[], &shell("ls / > /dev/null; :"))?;
    assert_eq!(report["schema"], "cowtrace.verify/1");
    assert_eq!(report["report"]["schema"], "cowtrace.report/1");
    for part in ["kernel", "backend", "lost"] {
        ensure!(
            report[part].is_object() && report[part] == report["report"][part],
            "{part}: {}",
            report[part]
        );
    }
    for name in ["wpcopy_count", "minor_faults", "cow_ksm", "smaps"] {
        let oracle = oracle(&report, name)?;
        text(oracle, "/covers")?;
        let available = oracle["available"].as_bool().context("available is no boolean")?;
        ensure!(available == oracle["why_not"].is_null(), "{oracle}");
    }
    assert_eq!(oracle(&report, "smaps")?["available"], false);
    assert_eq!(report["ledger"], Value::Null);
    let traced = field(&report, "/report/processes")?.as_array().context("no processes")?;
    assert_eq!(rows(&report)?.len(), traced.len());
    for (row, process) in rows(&report)?.iter().zip(traced) {
        assert_eq!((&row["pid"], &row["comm"]), (&process["pid"], &process["comm"]));
        assert_eq!(row["wpcopy"], process["wpcopy"]);
        let solved = number(row, "/minor_faults")? + number(row, "/major_faults")?;
        let counted = number(row, "/faults")?;
        ensure!(0 < counted && counted <= solved, "{row}");
        ensure!(["exact", "bounded"].contains(&text(row, "/verdict")?), "{row}");
        assert_eq!(row["explanation"], Value::Null);
    }
    for sum in ["processes", "exact", "differ", "running", "no_record", "not_traced", "bounded"] {
        number(&report, &format!("/totals/{sum}"))?;
    }
    Ok(())
}

#[test]
fn processes_without_a_slot_are_found() -> Result<()> {
    let _live = live!();
    let script = "for i in 1 2 3; do (ls / | sort | (cat; sh -c 'ls /; :') | tail -1) > /dev/null; done";
    let (report, status) = verified(&["--max-tasks", "4"], &shell(script))?;
    assert_eq!((status, &report["totals"]["verdict"]), (Some(1), &"differs".into()), "{}", report["totals"]);
    ensure!(number(&report, "/lost/processes")? > 0, "{}", report["lost"]);
    let untraced: Vec<_> = rows(&report)?.iter().filter(|row| row["verdict"] == "not_traced").collect();
    // Children of those that found no slot are not counted as lost, but found as well.
    ensure!(untraced.len() as u64 >= number(&report, "/lost/processes")?, "{untraced:?}");
    for row in untraced {
        assert_eq!((&row["wpcopy"], &row["faults"]), (&Value::Null, &Value::Null));
        ensure!(text(row, "/explanation")?.contains("--max-tasks"), "{row}");
    }
    let shown = verify(&["--max-tasks", "4"], &shell(script))?;
    ensure!(last_line(&shown).ends_with(" processes differ"), "{shown:?}");
    Ok(())
}

/// A real difference: copies without a page fault are in the kernel's count.
#[test]
fn copies_that_the_backend_cannot_see_are_told() -> Result<()> {
    let _live = live!();
    let (report, status) =
        verified(&[], &[program()?.as_os_str(), "foreign-write".as_ref(), "250".as_ref()])?;
    if best_outcome(&report)? != "exact" {
        skip("copies_that_the_backend_cannot_see", "this kernel has no count of copies");
        return Ok(());
    }
    if !field(&report, "/backend/blind_to")?.as_array().is_some_and(|to| to.contains(&"gup".into())) {
        assert_eq!(
            (status, &report["totals"]["verdict"]),
            (Some(0), &"exact".into()),
            "{}",
            report["totals"]
        );
        return Ok(());
    }
    assert_eq!((status, number(&report, "/totals/differ")?), (Some(1), 1));
    let row = &rows(&report)?[0];
    assert_eq!(number(row, "/kernel_wpcopy")? - number(row, "/wpcopy")?, 250);
    let why = text(row, "/explanation")?;
    ensure!(why.contains("process_vm_writev") && why.contains("cowtrace doctor"), "{why}");
    let shown = verify(&[], &[program()?.as_os_str(), "foreign-write".as_ref(), "250".as_ref()])?;
    ensure!(String::from_utf8_lossy(&shown.stderr).contains("differs by 250: "), "{shown:?}");
    assert_eq!(last_line(&shown), "1 of 2 processes differ");
    Ok(())
}

#[test]
fn what_still_runs_is_told() -> Result<()> {
    let _live = live!();
    let command = [program()?.into_os_string(), "daemonise".into(), "100".into(), "600".into()];
    let (report, status) = verified(&["--no-follow"], &command)?;
    assert_eq!((status, number(&report, "/totals/running")?), (Some(0), 1), "{}", report["totals"]);
    let running = rows(&report)?.iter().find(|row| row["verdict"] == "running").context("nobody runs")?;
    assert_eq!(running["kernel_wpcopy"], Value::Null);
    ensure!(text(running, "/explanation")?.contains("when it ends"), "{running}");
    let pid = number(running, "/pid")?;
    let end = Instant::now() + SOON;
    while fs::exists(format!("/proc/{pid}"))? && Instant::now() < end {
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The command's shell, when it has said what accounting is like inside.
fn started(options: &[&str], script: &str) -> Result<(Child, String)> {
    let mut child = tracer("verify")
        .args(options)
        .args(["--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok((child, line.trim().to_owned()))
}

#[test]
fn accounting_is_on_for_the_run_and_as_before_after_it() -> Result<()> {
    let _live = live!();
    if !fs::exists(ACCOUNTING)? {
        skip("accounting_is_on_for_the_run", "this kernel has no kernel.task_delayacct (before 5.14)");
        return Ok(());
    }
    let inside = format!("cat {ACCOUNTING}");
    for before in ["0", "1"] {
        let _setting = Setting::set(ACCOUNTING, before)?;
        let (child, on) = started(&[], &inside)?;
        let output = finish(child, SOON)?;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!((on.as_str(), accounting()?.as_str()), ("1", before), "after a normal end");

        for signal in [libc::SIGINT, libc::SIGTERM] {
            let (child, on) = started(&[], &format!("{inside}; exec sleep 60"))?;
            // SAFETY: plain numbers; a process of this test.
            let sent = unsafe { libc::kill(i32::try_from(child.id())?, signal) };
            ensure!(sent == 0, "kill: {}", std::io::Error::last_os_error());
            let output = finish(child, SOON)?;
            assert_eq!((on.as_str(), accounting()?.as_str()), ("1", before), "after signal {signal}");
            // The command ended by the signal, and its counts are exact all the same.
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            ensure!(
                String::from_utf8_lossy(&output.stderr).contains(&format!("signal {signal}")),
                "{output:?}"
            );
        }

        let output = verify(&[], &["/nonexistent/program"])?;
        assert_eq!((output.status.code(), accounting()?.as_str()), (Some(127), before));
        let output = verify(&[], &["/etc/passwd"])?;
        assert_eq!((output.status.code(), accounting()?.as_str()), (Some(126), before));
        let output = verify(&["-o", "/dev/full"], &["true"])?;
        assert_eq!(
            (output.status.code(), accounting()?.as_str()),
            (Some(1), before),
            "the report was not written"
        );
    }
    Ok(())
}

#[test]
fn accounting_that_is_switched_off_meanwhile_is_noticed() -> Result<()> {
    let _live = live!();
    if !fs::exists(ACCOUNTING)? {
        skip("accounting_that_is_switched_off", "this kernel has no kernel.task_delayacct (before 5.14)");
        return Ok(());
    }
    let _setting = Setting::set(ACCOUNTING, "0")?;
    let script = format!("ls / > /dev/null; echo 0 > {ACCOUNTING}; ls / > /dev/null; :");
    let (report, status) = verified(&[], &shell(&script))?;
    if best_outcome(&report)? != "exact" {
        skip("accounting_that_is_switched_off", "this kernel has no count of copies");
        return Ok(());
    }
    assert_eq!((status, number(&report, "/totals/differ")?), (Some(1), 1), "{}", report["processes"]);
    let row = rows(&report)?.iter().find(|row| row["verdict"] == "differs").context("nobody differs")?;
    assert_eq!(row["kernel_wpcopy"], 0);
    ensure!(text(row, "/explanation")?.contains("switched off during the run"), "{row}");
    Ok(())
}

#[test]
fn the_ledger_explains_private_dirty() -> Result<()> {
    let _live = live!();
    // Between the two moments the shell fills its memory; a child shares it, and lives at both, which take longer where the
    // machine is slow.
    let last = rounds(2);
    let script = format!("sleep {last} & sleep 0.7; x=$(seq 1 30000); sleep {last}; :");
    let (report, status) = verified(&["--ledger", "400ms,1600ms"], &shell(&script))?;
    let smaps = oracle(&report, "smaps")?;
    assert_eq!((status, &smaps["finding"]), (Some(0), &"holds".into()), "{smaps} {}", report["ledger"]);
    let rows = field(&report, "/ledger/rows")?.as_array().context("no rows")?;
    let moved = |what: &str| -> i64 {
        rows.iter().filter_map(|row| row["explained_pages"][what].as_i64()).map(i64::abs).sum()
    };
    ensure!(moved("anon") > 40, "{} first touches", moved("anon"));
    let kb = |side: usize| rows.iter().filter_map(|row| row["private_dirty_kb"][side].as_u64()).sum::<u64>();
    ensure!(kb(1) > kb(0) + 100, "from {} to {} kB", kb(0), kb(1));
    let at = [0, 1].map(|side| report["ledger"]["at_ms"][side].as_u64());
    ensure!(at[0] >= Some(400) && at[1] >= Some(1600), "{at:?}");
    assert_eq!(report["totals"]["verdict"], best_outcome(&report)?, "the counts are as without it");
    Ok(())
}

#[test]
fn a_command_that_ends_before_its_ledger_is_incomplete() -> Result<()> {
    let _live = live!();
    let (report, status) = verified(&["--ledger", "10s,20s"], &["true"])?;
    assert_eq!((status, &report["totals"]["verdict"]), (Some(1), &"incomplete".into()));
    ensure!(text(oracle(&report, "smaps")?, "/why_not")?.contains("10s"), "{}", report["oracles"]);
    Ok(())
}

#[test]
fn bad_usage() -> Result<()> {
    let cases: [(&[&str], &str); 6] = [
        (&["verify"], "COMMAND"),
        (&["verify", "--ledger", "200ms", "--", "true"], "two times"),
        (&["verify", "--ledger", "soon,later", "--", "true"], "soon"),
        (&["verify", "--ledger", "2s,1s", "--", "true"], "later"),
        (&["verify", "--ledger", "1s,2s", "--no-regions", "--", "true"], "--no-regions"),
        (&["verify", "--max-tasks", "0", "--", "true"], "--max-tasks"),
    ];
    for (arguments, word) in cases {
        let output = Command::new(cowtrace()).args(arguments).output()?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        ensure!(message.contains(word) && message.lines().count() == 2, "{arguments:?}: {message}");
    }
    Ok(())
}

#[test]
fn nothing_runs_where_nothing_can_be_proven() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let marker = place.path().join("ran");
    let touch = ["touch", marker.to_str().context("a path that is not UTF-8")?];
    let output = verify(&["-o", "/nonexistent/report"], &touch)?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    ensure!(!marker.exists(), "the command has run");
    let Some(setpriv) = found("setpriv") else {
        skip("nothing_runs_without_privileges", "setpriv (Debian: util-linux) is not installed");
        return Ok(());
    };
    let program = shared_copy(&cowtrace(), place.path())?;
    let run_as = |words: &[&str]| -> Result<Output> {
        Ok(Command::new(&setpriv).args(words).arg(&program).args(["verify", "--"]).args(touch).output()?)
    };
    let output = run_as(&["--reuid", "65534", "--regid", "65534", "--clear-groups"])?;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    ensure!(String::from_utf8_lossy(&output.stderr).contains("root"), "{output:?}");
    // What tracing needs, but not what taskstats asks for.
    let output = run_as(&["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"])?;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    ensure!(String::from_utf8_lossy(&output.stderr).contains("CAP_NET_ADMIN"), "{output:?}");
    ensure!(!marker.exists(), "the command has run");
    Ok(())
}
