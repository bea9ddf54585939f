//! `wpcopy` equals the kernel's own count, for every process of every kind of command.

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Comparison, Listener, Setting, Traced, compare, counts_copies, forks_sum_up, found, live, number,
    processes, program, regions_sum_up, rounds, say, scratch, shared_copy, shell, skip, traced_as_marker,
    workload,
};

/// Traces with regions and without, and compares each process with the kernel.
fn exact_both_ways(what: &str, command: &[&str]) -> Result<Vec<(Traced, Comparison)>> {
    let mut results = Vec::new();
    for options in [&[][..], &["--no-regions"]] {
        let _accounting = Setting::delay_accounting()?;
        let listener = Listener::start()?;
        let traced = traced_as_marker(options, command)?;
        let exited = listener.finish()?;
        ensure!(traced.output.status.success(), "{what} failed: {:?}", traced.output);
        let outcome = compare(&traced.report, &exited)?;
        let regions = if options.is_empty() { "with regions" } else { "without regions" };
        outcome.say(&format!("{what}, {regions}"));
        outcome.exact().with_context(|| format!("{what}, {regions}"))?;
        traced.nothing_lost()?;
        let attributed = regions_sum_up(&traced.report);
        if options.is_empty() {
            let faults = attributed.with_context(|| format!("{what}: faults and regions"))?;
            say(&format!("{what}: {faults} faults of all kinds, each in a region"));
            forks_sum_up(&traced.report).with_context(|| format!("{what}: forks and regions"))?;
        } else {
            let any = processes(&traced.report)?.iter().any(|p| p["regions"] != serde_json::json!([]));
            ensure!(!any, "regions in a report without regions");
        }
        results.push((traced, outcome));
    }
    Ok(results)
}

#[test]
fn a_program_that_forks_and_writes() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let workload = shared_copy(&workload(), place.path())?;
    let workload = workload.to_str().context("a path that is not UTF-8")?;
    for (traced, outcome) in
        exact_both_ways("5,000 pages by 3 children", &[workload, "cow-write", "5000", "3"])?
    {
        assert_eq!(outcome.processes, 4);
        let children: Vec<_> = processes(&traced.report)?.into_iter().skip(1).collect();
        for child in children {
            let copies = number(child, "/faults/copy")?;
            // The rest is its stack and what fork itself writes in the C library.
            ensure!((5000..5010).contains(&copies), "{copies} copies in a child");
        }
    }
    Ok(())
}

#[test]
fn a_program_run_three_times() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let workload = shared_copy(&workload(), place.path())?;
    let script = format!("for i in 1 2 3; do {} cow-write 5000; done", workload.display());
    for (_, outcome) in exact_both_ways("5,000 pages, three times", &shell(&script))? {
        // The shell, and three times a parent and a child.
        assert_eq!(outcome.processes, 7);
        ensure!(outcome.wpcopy.is_none_or(|copies| copies >= 15_000), "only {:?} copies", outcome.wpcopy);
    }
    Ok(())
}

#[test]
fn a_shell_and_a_recursive_ls() -> Result<()> {
    let _live = live!();
    let rounds = rounds(60);
    let script = format!(
        "i=0
        while [ $i -lt {rounds} ]; do
            /bin/true; /bin/echo $i | cat > /dev/null; x=$(expr $i + 1); i=$((i + 1))
        done
        ls -lR /etc > /dev/null 2>&1; :"
    );
    for (_, outcome) in exact_both_ways("shell and ls", &shell(&script))? {
        // The shell, each time true, echo, cat and a subshell that becomes expr, and at the end ls.
        let least = u64::from(rounds) * 4 + 1;
        ensure!(outcome.processes > least, "only {} processes", outcome.processes);
    }
    Ok(())
}

#[test]
fn stress_ng() -> Result<()> {
    let _live = live!();
    if found("stress-ng").is_none() {
        skip("stress_ng", "stress-ng is not installed (apt-get install stress-ng)");
        return Ok(());
    }
    // Longer where the machine is slow.
    let seconds = rounds(5).to_string();
    let command = ["stress-ng", "--fork", "2", "--vm", "1", "--vm-bytes", "64M", "-t", &seconds];
    for (_, outcome) in exact_both_ways("stress-ng", &command)? {
        // Enough to say something; it makes thousands where the processor is not emulated.
        ensure!(outcome.processes > 100, "only {} processes", outcome.processes);
    }
    Ok(())
}

#[test]
fn threads_by_the_hundred() -> Result<()> {
    let _live = live!();
    if !counts_copies() {
        skip("threads_by_the_hundred", "this kernel does not tell whose a thread is when it ends");
        return Ok(());
    }
    let place = scratch()?;
    let storm = shared_copy(&program()?, place.path())?;
    let storm = storm.to_str().context("a path that is not UTF-8")?;
    for (_, outcome) in exact_both_ways("4,000 threads", &[storm, "thread-storm", "4000"])? {
        assert_eq!(outcome.processes, 1);
    }
    Ok(())
}
