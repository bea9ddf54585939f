//! Which memory: pages at addresses that the program itself prints, copied known numbers of times.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Setting, Traced, counts_copies, field, found, live, number, process, processes, program, scratch, skip,
    text, trace, tracer, workload,
};
use serde_json::Value;

/// What is counted page by page, besides copies.
const REPLACED: [&str; 5] = ["zero", "file", "ksm", "hugetlb", "pinned"];

fn address(value: &Value) -> Result<u64> {
    let text = value.as_str().and_then(|text| text.strip_prefix("0x")).context("no address")?;
    Ok(u64::from_str_radix(text, 16)?)
}

/// Copies by address, of pages that were copied.
fn copies(process: &Value, page_size: u64) -> Result<BTreeMap<u64, u64>> {
    let mut pages = BTreeMap::new();
    for run in field(process, "/pages/map")?.as_array().context("map is no list")? {
        let (start, copies) = (address(&run["start"])?, number(run, "/copies")?);
        if copies > 0 {
            pages.extend((0..number(run, "/pages")?).map(|page| (start + page * page_size, copies)));
        }
    }
    Ok(pages)
}

/// What each process counted is what its pages sum up to; in all, so many copies.
fn sum_up(traced: &Traced) -> Result<u64> {
    let mut all = 0;
    for process in processes(&traced.report)? {
        let (faults, pages) = (&process["faults"], field(process, "/pages")?);
        let left_out = |what: &str| process["pages"]["map_left_out"][what].as_u64().unwrap_or(0);
        let listed = |what: &str| -> u64 {
            let runs = pages["map"].as_array().into_iter().flatten();
            runs.map(|run| run["pages"].as_u64().unwrap_or(0) * run[what].as_u64().unwrap_or(0)).sum()
        };
        let (copies, replacements) = (number(pages, "/copies")?, number(pages, "/replacements")?);
        assert_eq!(listed("copies") + left_out("copies"), copies, "{}", process["pid"]);
        assert_eq!(listed("replacements") + left_out("replacements"), replacements, "{}", process["pid"]);
        let counted: u64 = REPLACED.iter().filter_map(|kind| faults[kind].as_u64()).sum();
        let elsewhere = number(pages, "/unplaced")? + number(pages, "/overflow")?;
        if elsewhere == 0 {
            assert_eq!((copies, replacements), (number(faults, "/copy")?, counted), "{}", process["pid"]);
        }
        assert_eq!(copies + replacements + elsewhere, number(faults, "/copy")? + counted);
        all += copies;
    }
    Ok(all)
}

/// The traced run of a subject, and where it says its memory is.
fn subject(words: &[&str]) -> Result<(Traced, u64, u64)> {
    let program = program()?;
    let command: Vec<_> =
        [program.as_os_str()].into_iter().chain(words.iter().map(|word| word.as_ref())).collect();
    let traced = trace(&["--pages"], &command)?;
    ensure!(traced.output.status.success(), "{:?}", traced.output);
    traced.nothing_lost()?;
    sum_up(&traced)?;
    let printed = String::from_utf8_lossy(&traced.output.stdout).into_owned();
    let memory = address(&printed.trim().into()).with_context(|| format!("it printed {printed:?}"))?;
    let page_size = number(&traced.report, "/kernel/page_size")?;
    Ok((traced, memory, page_size))
}

#[test]
fn exactly_the_pages_that_were_written_have_a_count() -> Result<()> {
    let _live = live!();
    let (traced, memory, page_size) = subject(&["pages-by-parent", "1000", "1"])?;
    let pages = copies(process(&traced.report, false)?, page_size)?;
    let found: Vec<(u64, u64)> =
        pages.range(memory..memory + 1000 * page_size).map(|(&at, &times)| (at, times)).collect();
    let written: Vec<(u64, u64)> = (0..1000).step_by(3).map(|page| (memory + page * page_size, 1)).collect();
    assert_eq!(found, written);
    Ok(())
}

#[test]
fn pages_that_three_forks_share_anew_are_copied_three_times() -> Result<()> {
    let _live = live!();
    let (traced, memory, page_size) = subject(&["pages-by-parent", "30", "3"])?;
    let parent = process_of(&traced, None)?;
    let pages = copies(parent, page_size)?;
    let found: Vec<(u64, u64)> =
        pages.range(memory..memory + 30 * page_size).map(|(&at, &times)| (at, times)).collect();
    let written: Vec<(u64, u64)> = (0..30).step_by(3).map(|page| (memory + page * page_size, 3)).collect();
    assert_eq!(found, written);
    let repeated = field(parent, "/pages/repeated")?.as_array().context("repeated is no list")?;
    let mut seen = 0;
    for run in repeated {
        if (memory..memory + 30 * page_size).contains(&address(&run["start"])?) {
            assert_eq!(text(run, "/why")?, "shared anew by 3 forks");
            assert_eq!((number(run, "/copies")?, number(run, "/pages")?), (3, 1));
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
    Ok(())
}

fn process_of(traced: &Traced, forked_from: Option<u64>) -> Result<&Value> {
    let found = |process: &&Value| process["forked_from"].as_u64() == forked_from;
    processes(&traced.report)?.into_iter().find(found).context("no such process")
}

#[test]
fn threads_that_write_the_same_pages_lose_no_copy() -> Result<()> {
    let _live = live!();
    let (traced, memory, page_size) = subject(&["pages-by-threads", "20000", "8"])?;
    let child = process(&traced.report, true)?;
    let pages = copies(child, page_size)?;
    let found: Vec<u64> = pages.range(memory..memory + 20_000 * page_size).map(|(_, &times)| times).collect();
    assert_eq!(found.len(), 20_000, "each page was copied");
    // Where two copied one at once, the tracepoint backend counts both; each says so. How many there are is up
    // to the scheduler.
    ensure!(found.iter().all(|&times| times <= 8), "more copies than threads");
    for run in field(child, "/pages/repeated")?.as_array().into_iter().flatten() {
        if (memory..memory + 20_000 * page_size).contains(&address(&run["start"])?) {
            ensure!(text(run, "/why")?.contains("two threads copied it at once"), "{run}");
        }
    }
    Ok(())
}

/// `madvise` populates three mappings of 500 pages. The tracepoint backend knows the mapping, not which page it is: none may
/// be said to have been copied often.
#[test]
fn a_page_that_is_not_known_is_none() -> Result<()> {
    let _live = live!();
    if !counts_copies() {
        skip("a_page_that_is_not_known_is_none", "this kernel has no MADV_POPULATE_WRITE");
        return Ok(());
    }
    let program = program()?;
    let traced = trace(&["--pages"], &[program.as_os_str(), "populate".as_ref(), "500".as_ref()])?;
    traced.nothing_lost()?;
    sum_up(&traced)?;
    let mut unplaced = 0;
    for process in processes(&traced.report)? {
        unplaced += number(process, "/pages/unplaced")?;
        for run in field(process, "/pages/map")?.as_array().into_iter().flatten() {
            ensure!(number(run, "/copies")? < 5, "{run}");
        }
    }
    let known = text(&traced.report, "/backend/name")? != "tracepoint";
    assert_eq!(unplaced, if known { 0 } else { 1500 });
    Ok(())
}

#[test]
fn a_huge_page_is_one_page() -> Result<()> {
    let _live = live!();
    let _pool = Setting::set("/proc/sys/vm/nr_hugepages", "16")?;
    if fs::read_to_string("/proc/sys/vm/nr_hugepages")?.trim() != "16" {
        skip("a_huge_page_is_one_page", "no 16 free huge pages here");
        return Ok(());
    }
    let program = program()?;
    let traced = trace(&["--pages"], &[program.as_os_str(), "hugetlb".as_ref(), "5".as_ref()])?;
    traced.nothing_lost()?;
    sum_up(&traced)?;
    let child = process(&traced.report, true)?;
    let pages = field(child, "/pages/map")?.as_array().context("map is no list")?;
    let huge = pages.iter().filter(|run| run["replacements"] == 1 && run["pages"] == 1 && run["copies"] == 0);
    assert_eq!((huge.count(), number(child, "/faults/hugetlb")?), (5, 5), "{child}");
    Ok(())
}

#[test]
fn pages_of_many_processes_sum_up() -> Result<()> {
    let _live = live!();
    if found("stress-ng").is_none() {
        skip("pages_of_many_processes_sum_up", "stress-ng is not installed (apt-get install stress-ng)");
        return Ok(());
    }
    let command = ["stress-ng", "--fork", "2", "--vm", "1", "--vm-bytes", "64M", "-t", "3"];
    let mut traced = trace(&["--pages"], &command)?;
    // A slow machine may lose a record under this load, and says so.
    for _ in 0..3 {
        if traced.nothing_lost().is_ok() {
            break;
        }
        traced = trace(&["--pages"], &command)?;
    }
    ensure!(traced.output.status.success(), "{:?}", traced.output);
    traced.nothing_lost()?;
    ensure!(sum_up(&traced)? > 100, "few copies");
    Ok(())
}

#[test]
fn what_finds_no_room_is_told() -> Result<()> {
    let _live = live!();
    let command = [workload().into_os_string(), "cow-write".into(), "5000".into()];
    let traced = trace(&["--pages", "--max-pages", "1000"], &command)?;
    sum_up(&traced)?;
    let lost = number(&traced.report, "/lost/pages")?;
    ensure!((4_000..4_100).contains(&lost), "{lost} lost");
    assert_eq!(number(process(&traced.report, true)?, "/faults/copy")? / 1000, 5);
    Ok(())
}

#[test]
fn the_picture_is_written_and_the_options_are_checked() -> Result<()> {
    let _live = live!();
    let directory = scratch()?;
    let picture = directory.path().join("map.svg");
    let output = tracer("run")
        .args(["--map".as_ref(), picture.as_os_str(), "--".as_ref()])
        .args([workload().as_os_str(), "cow-write".as_ref(), "3000".as_ref()])
        .output()?;
    let human = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && human.contains("\npages    "), "{human}");
    let svg = fs::read_to_string(&picture)?;
    ensure!(svg.contains("<svg") && svg.contains("pages copied"), "{svg}");
    for (options, status) in [
        (&["--pages", "--no-regions"][..], 2),
        (&["--max-pages", "5"], 2),
        (&["--map", "/no/such/directory/x"], 1),
    ] {
        let output = tracer("run").args(options).args(["--", "echo", "ran"]).output()?;
        assert_eq!((output.status.code(), output.stdout.len()), (Some(status), 0), "{output:?}");
    }
    let report = trace(&[], &[workload().as_os_str(), "cow-write".as_ref(), "10".as_ref()])?.complete()?;
    ensure!(processes(&report)?.iter().all(|process| process.get("pages").is_none()), "{report}");
    ensure!(report["lost"].get("pages").is_none(), "{report}");
    Ok(())
}
