//! The lab: every claim holds, and no page stays unexplained.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{cowtrace, field, live, number, say, scratch, text};
use serde_json::Value;

const STEPS: [&str; 5] = ["no-heap", "heap-untouched", "heap-touched", "fork-shared", "child-writes"];

fn list<'a>(value: &'a Value, pointer: &str) -> Result<&'a Vec<Value>> {
    field(value, pointer)?.as_array().with_context(|| format!("{pointer} is no list"))
}

/// Whether a claim's value is the expected one, or in the expected range ("1..2").
fn as_expected(claim: &Value) -> bool {
    let (expected, measured) = (&claim["expected"], &claim["measured"]);
    let range = expected.as_str().and_then(|text| text.split_once(".."));
    let range = range.and_then(|(low, high)| Some((low.parse::<f64>().ok()?, high.parse::<f64>().ok()?)));
    match (range, measured.as_f64()) {
        (Some((low, high)), Some(value)) => (low..=high).contains(&value),
        _ => expected == measured,
    }
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
    let place = scratch()?;
    let file = place.path().join("lab.json");
    let output = Command::new(cowtrace())
        .arg("lab")
        .args(arguments)
        .args(["--format", "json", "-o"])
        .arg(&file)
        .current_dir(place.path())
        .output()?;
    ensure!(output.status.success(), "the lab failed: {output:?}");
    ensure!(output.stdout.is_empty(), "on standard output: {output:?}");
    Ok(serde_json::from_str(&std::fs::read_to_string(&file)?)?)
}

#[test]
fn five_experiments_hold() -> Result<()> {
    let _live = live!();
    let lab = lab(&STEPS)?;
    assert_eq!(lab["schema"], "cowtrace.lab/1");
    let experiments = list(&lab, "/experiments")?;
    let ids = experiments.iter().map(|experiment| text(experiment, "/id")).collect::<Result<Vec<_>>>()?;
    assert_eq!(ids, STEPS);
    let mut claims = 0;
    for experiment in experiments {
        for claim in list(experiment, "/claims")? {
            ensure!(claim["verdict"] == "holds", "{}: {claim}", experiment["id"]);
            ensure!(as_expected(claim), "{}: holds, but differs: {claim}", experiment["id"]);
            for pointer in ["/claim", "/unit", "/why"] {
                text(claim, pointer)?;
            }
            claims += 1;
        }
        for row in list(experiment, "/ledger")? {
            let residual = field(row, "/residual_pages")?.as_i64().context("residual_pages is no number")?;
            ensure!(residual == 0, "{}: {row}", experiment["id"]);
        }
        assert_eq!(experiment["report"]["schema"], "cowtrace.report/1");
        for what in ["events", "processes", "regions", "stacks"] {
            assert_eq!(experiment["report"]["lost"][what], 0, "{}: lost {what}", experiment["id"]);
        }
        text(experiment, "/title")?;
        text(experiment, "/source")?;
    }
    say(&format!("lab: {} experiments, {claims} claims, all hold", experiments.len()));
    ensure!(claims >= 15, "only {claims} claims");
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
    assert_eq!(number(heap, "/faults/copy")?, 17);
    // Private_Dirty moves in both by the 17 pages, though only one of them has copied.
    assert_eq!(heap_ledger(experiment, &child["pid"], "copy")?, (17, 68));
    assert_eq!(heap_ledger(experiment, &child["forked_from"], "unshared_by_others")?, (17, 68));
    Ok(())
}

#[test]
fn the_list_names_each_experiment() -> Result<()> {
    let output = Command::new(cowtrace()).args(["lab", "--list"]).output()?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{output:?}");
    for id in STEPS {
        ensure!(shown.contains(id), "{id} is not in the list:\n{shown}");
    }
    Ok(())
}

/// The verdicts on paper: what the tests above rely on shows in the text as well.
#[test]
fn the_text_teaches() -> Result<()> {
    let _live = live!();
    let output = Command::new(cowtrace()).args(["lab", "child-writes"]).output()?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{output:?}");
    for words in ["Private_Dirty", "Shared_Dirty", "17", "holds"] {
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
    let output = Command::new(cowtrace())
        .args(["lab", "child-writes", "--report", "lab.html", "--report", "lab.md"])
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
    ensure!(page.contains("copy on 17 since the checkpoint before"), "no map with 17 copies in the page");
    ensure!(document.contains("ccccccccccccccccc\n"), "no map with 17 copies:\n{document}");
    for name in ["lab.html", "lab.md"] {
        ensure!(said.contains(name), "not told where {name} is: {said}");
    }
    let files: Vec<_> = std::fs::read_dir(place.path())?.collect::<Result<_, _>>()?;
    ensure!(files.len() == 2, "something is left: {files:?}");
    Ok(())
}
