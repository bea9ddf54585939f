//! The lab: every experiment is there, every claim has the right verdict, and no page stays unexplained.

use std::{os::unix::process::CommandExt as _, path::Path, process::Command, sync::OnceLock, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use cowtrace_tests::{
    cowtrace, field, finish, heap_pages, live, number, page_size, say, scratch, text, tracer,
};
use serde_json::Value;

/// All experiments.
pub const IDS: [&str; 36] = [
    "no-heap",
    "heap-untouched",
    "heap-touched",
    "fork-shared",
    "child-writes",
    "parent-writes-page",
    "snapshot",
    "read-only-child",
    "byte-per-page",
    "half-heap",
    "map-shared",
    "private-file",
    "dontfork",
    "wipeonfork",
    "thp-byte",
    "worst-case",
    "fork-exec",
    "posix-spawn",
    "vfork",
    "shared-clean-claim",
    "fork-timing",
    "rss-after-fork",
    "global-array",
    "scattered-writes",
    "grandchild-writes",
    "segments",
    "zero-page",
    "vsz-rss",
    "overcommit",
    "lean-fork",
    "hugetlb",
    "ksm",
    "pinned-pages",
    "exit-unshares",
    "python-refcounts",
    "redis-bgsave",
];

/// What the whole lab may take here, and how many claims it may leave unmeasured.
const LIMIT: Duration = Duration::from_secs(90);
const UNMEASURABLE: usize = 3;

fn list<'a>(value: &'a Value, pointer: &str) -> Result<&'a Vec<Value>> {
    field(value, pointer)?.as_array().with_context(|| format!("{pointer} is no list"))
}

/// The ledger of a process's heap: pages explained in this way, over all stages, and Private_Dirty at the end, kB.
fn heap_ledger(experiment: &Value, pid: &Value, explained_by: &str) -> Result<(u64, u64)> {
    let mut pages = 0;
    let mut dirty_kb = None;
    for row in
        list(experiment, "/ledger")?.iter().filter(|row| row["region"] == "[heap]" && row["pid"] == *pid)
    {
        pages += number(row, &format!("/explained_pages/{explained_by}"))?;
        dirty_kb = Some(number(row, "/private_dirty_kb/1")?);
    }
    Ok((pages, dirty_kb.with_context(|| format!("no ledger of the heap of {pid}"))?))
}

fn lab(arguments: &[&str]) -> Result<Value> {
    let mut command = tracer("lab");
    command.args(arguments);
    finish_lab(command)
}

/// Ends in the lab's JSON.
fn finish_lab(mut command: Command) -> Result<Value> {
    let place = scratch()?;
    let file = place.path().join("lab.json");
    let child = command
        .args(["--format", "json", "-o"])
        .arg(&file)
        .current_dir(place.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let output = finish(child, 3 * LIMIT)?;
    let json = std::fs::read_to_string(&file)
        .map_err(anyhow::Error::from)
        .and_then(|text| Ok(serde_json::from_str(&text)?));
    if !output.status.success() {
        let wrong = json.as_ref().map(|lab| wrong_claims(lab).join("\n")).unwrap_or_default();
        return Err(anyhow!("the lab failed: {output:?}\n{wrong}"));
    }
    ensure!(output.stdout.is_empty(), "on standard output: {output:?}");
    json
}

/// For the message of a failed lab.
fn wrong_claims(lab: &Value) -> Vec<String> {
    let experiments = lab["experiments"].as_array().into_iter().flatten();
    let claims =
        experiments.flat_map(|e| e["claims"].as_array().into_iter().flatten().map(|c| (&e["id"], c)));
    claims.filter(|(_, claim)| claim["verdict"] != "holds").map(|(id, c)| format!("{id}: {c}")).collect()
}

/// The whole lab, run once for all tests: its JSON, and the time that it took.
pub fn whole_lab() -> Result<&'static (Value, Duration)> {
    static WHOLE: OnceLock<Result<(Value, Duration), String>> = OnceLock::new();
    let run = || {
        let started = std::time::Instant::now();
        lab(&[]).map(|json| (json, started.elapsed())).map_err(|error| format!("{error:#}"))
    };
    WHOLE.get_or_init(run).as_ref().map_err(|error| anyhow!("{error}"))
}

#[test]
fn every_experiment_has_the_right_verdicts() -> Result<()> {
    let _live = live!();
    let (lab, took) = whole_lab()?;
    assert_eq!(lab["schema"], "cowtrace.lab/1");
    let experiments = list(lab, "/experiments")?;
    let ids = experiments.iter().map(|experiment| text(experiment, "/id")).collect::<Result<Vec<_>>>()?;
    let missing: Vec<_> = IDS.iter().filter(|id| !ids.contains(id)).collect();
    ensure!(missing.is_empty() && ids.len() == IDS.len(), "missing: {missing:?}; there: {ids:?}");
    let mut verdicts = std::collections::BTreeMap::<&str, usize>::new();
    for experiment in experiments {
        let id = text(experiment, "/id")?;
        ensure!(!list(experiment, "/claims")?.is_empty(), "{id} claims nothing");
        for claim in list(experiment, "/claims")? {
            for pointer in ["/claim", "/unit", "/why"] {
                ensure!(!text(claim, pointer)?.is_empty(), "{id}: no {pointer}: {claim}");
            }
            let verdict = text(claim, "/verdict")?;
            let known = ["holds", "refuted", "differs", "unmeasurable"];
            ensure!(known.contains(&verdict), "{id}: {claim}");
            *verdicts.entry(verdict).or_default() += 1;
        }
        for row in list(experiment, "/ledger")? {
            let residual = field(row, "/residual_pages")?.as_i64().context("residual_pages is no number")?;
            ensure!(residual == 0, "{id}: {row}");
        }
        assert_eq!(experiment["report"]["schema"], "cowtrace.report/1");
        for what in ["events", "processes", "regions", "stacks"] {
            assert_eq!(experiment["report"]["lost"][what], 0, "{id}: lost {what}");
        }
        text(experiment, "/title")?;
        text(experiment, "/source")?;
    }
    say(&format!("lab: {} experiments in {:.1} s: {verdicts:?}", experiments.len(), took.as_secs_f64()));
    let unmeasurable = verdicts.get("unmeasurable").copied().unwrap_or(0);
    ensure!(unmeasurable <= UNMEASURABLE, "{unmeasurable} unmeasurable: {:#?}", wrong_claims(lab));
    ensure!(*took <= LIMIT, "the lab took {took:?}");
    Ok(())
}

/// Where addresses are not random, parent and child have pages at the same ones. What the kernel writes to load a program
/// (it clears the rest of the page in which `.bss` begins) must not be taken for a write to the memory of the one that
/// launched it.
#[test]
fn a_program_at_its_parents_addresses_is_not_its_parent() -> Result<()> {
    let _live = live!();
    let mut command = tracer("lab");
    command.args(["posix-spawn", "vfork", "fork-exec"]);
    let not_random = || {
        // SAFETY: no pointers.
        match unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: one system call, which allocates nothing.
    unsafe { command.pre_exec(not_random) };
    let lab = finish_lab(command)?;
    for experiment in list(&lab, "/experiments")? {
        for row in list(experiment, "/ledger")? {
            assert_eq!(row["residual_pages"], 0, "{}: {row}", experiment["id"]);
        }
    }
    Ok(())
}

#[test]
fn seventeen_copies_in_the_childs_heap() -> Result<()> {
    let _live = live!();
    let lab = lab(&["child-writes"])?;
    let experiment = field(&lab, "/experiments/0")?;
    let processes = list(experiment, "/report/processes")?;
    let child = processes.iter().find(|process| !process["forked_from"].is_null()).context("no child")?;
    let heap =
        list(child, "/regions")?.iter().find(|region| region["name"] == "[heap]").context("no [heap]")?;
    let pages = heap_pages();
    assert_eq!(number(heap, "/faults/copy")?, pages);
    // Private_Dirty moves in both by the 17 pages, though only one of them has copied.
    let moved = (pages, pages * page_size() / 1024);
    assert_eq!(heap_ledger(experiment, &child["pid"], "copy")?, moved);
    assert_eq!(heap_ledger(experiment, &child["forked_from"], "unshared_by_others")?, moved);
    Ok(())
}

/// A million copies, none lost: needs 9 GiB of memory.
#[test]
fn a_million_copies_are_counted() -> Result<()> {
    let _live = live!();
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    let kb: u64 = available.split_whitespace().next().unwrap_or_default().parse()?;
    if kb < 11 << 20 {
        cowtrace_tests::skip("a_million_copies_are_counted", "it needs 11 GiB of available memory");
        return Ok(());
    }
    let lab = lab(&["byte-per-page", "read-only-child", "--size", "4G"])?;
    let child = |experiment: &str| -> Result<Value> {
        let processes = list(&lab, &format!("{experiment}/report/processes"))?;
        processes.iter().find(|process| !process["forked_from"].is_null()).cloned().context("no child")
    };
    let copies = number(&child("/experiments/0")?, "/faults/copy")?;
    // And a few pages of its stack and data.
    ensure!((1 << 20..(1 << 20) + 16).contains(&copies), "{copies} copies");
    let copies = number(&child("/experiments/1")?, "/faults/copy")?;
    ensure!(copies < 16, "{copies} copies by a child that only reads");
    Ok(())
}

#[test]
fn the_list_names_each_experiment() -> Result<()> {
    let output = Command::new(cowtrace()).args(["lab", "--list"]).output()?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{output:?}");
    let mut ids: Vec<_> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let mut expected = IDS;
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    Ok(())
}

/// The verdicts on paper: what the tests above rely on shows in the text as well.
#[test]
fn the_text_teaches() -> Result<()> {
    let _live = live!();
    let output = tracer("lab").args(["child-writes"]).output()?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{output:?}");
    for words in ["Private_Dirty", "Shared_Dirty", &heap_pages().to_string(), "holds"] {
        ensure!(shown.contains(words), "no {words} in:\n{shown}");
    }
    ensure!(!shown.contains('\x1b'), "colours without a terminal");
    Ok(())
}

/// A page and a document, written whole beside the text.
#[test]
fn reports_in_files() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let output = tracer("lab")
        .args(["child-writes", "--report", "lab.html", "--report", "lab.md"])
        .current_dir(place.path())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(place.path().join(name));
    let (page, document) = (read("lab.html")?, read("lab.md")?);
    ensure!(page.trim_end().ends_with("</html>"), "half a page");
    for words in ["child-writes", "holds", "Private_Dirty", "expected", "measured"] {
        ensure!(page.contains(words), "no {words} in the page");
        ensure!(document.contains(words), "no {words} in the document:\n{document}");
    }
    let pages = heap_pages();
    let in_page = format!("copy on {pages} since the checkpoint before");
    ensure!(page.contains(&in_page), "no map with {pages} copies in the page");
    let in_document = format!("{}\n", "c".repeat(usize::try_from(pages)?));
    ensure!(document.contains(&in_document), "no map with {pages} copies:\n{document}");
    for name in ["lab.html", "lab.md"] {
        ensure!(said.contains(name), "not told where {name} is: {said}");
    }
    let files: Vec<_> = std::fs::read_dir(place.path())?.collect::<Result<_, _>>()?;
    ensure!(files.len() == 2, "something is left: {files:?}");
    Ok(())
}

#[test]
fn the_documentation_has_each_claim() -> Result<()> {
    let _live = live!();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/lab.md");
    let document = std::fs::read_to_string(&file)?;
    let (lab, _) = whole_lab()?;
    let mut missing = Vec::new();
    for experiment in list(lab, "/experiments")? {
        let id = text(experiment, "/id")?;
        let heading = format!("### {id}");
        let Some((_, rest)) = document.split_once(&heading) else {
            missing.push(heading);
            continue;
        };
        let section = rest.split("\n### ").next().unwrap_or(rest);
        for claim in list(experiment, "/claims")? {
            let words = text(claim, "/claim")?;
            if !section.contains(words) {
                missing.push(format!("{id}: {words}"));
            }
        }
    }
    ensure!(missing.is_empty(), "docs/lab.md lacks:\n{}", missing.join("\n"));
    Ok(())
}
