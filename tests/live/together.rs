//! All kinds of faults in one session: programs of known faults, one after the other, all under one tracer.
//!
//! Quick also where starting a tracer takes its time, and harder than one by one: nothing of one program may be counted
//! as another's.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Listener, Setting, compare, counts_copies, in_memory, live, number, page_size, processes, program,
    regions_sum_up, scratch, shared_copy, shell, skip, top_region, traced_as_marker, workload,
};
use serde_json::Value;

/// Which process of a program.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Parent,
    Child,
}
use Who::{Child, Parent};

/// A program and the faults of one kind in its memory, which are exact.
struct Known {
    /// Its words; `FILE` stands for a file of 100 pages.
    words: &'static str,
    who: Who,
    kind: &'static str,
    count: u64,
}

const SUBJECTS: [Known; 7] = [
    Known { words: "fork-write 300", who: Child, kind: "copy", count: 300 },
    Known { words: "fork-write 300", who: Parent, kind: "anon", count: 300 },
    Known { words: "zero 200", who: Parent, kind: "zero", count: 200 },
    Known { words: "huge-zero 5", who: Parent, kind: "copy", count: 0 },
    Known { words: "reuse 210", who: Parent, kind: "reuse", count: 210 },
    Known { words: "kernel-write 220", who: Child, kind: "copy", count: 220 },
    Known { words: "fault-in-call 20", who: Parent, kind: "denied", count: 0 },
];
/// Only where the kernel tells whose a thread is: else there is nothing to compare it with.
const THREADS: [Known; 1] = [Known { words: "threads-write 4 50", who: Child, kind: "copy", count: 200 }];
const WORKLOAD: [Known; 4] = [
    Known { words: "denied-handled 40", who: Parent, kind: "denied", count: 40 },
    Known { words: "file-write-first FILE 100", who: Parent, kind: "file", count: 100 },
    Known { words: "file-read-write FILE 100", who: Parent, kind: "file", count: 100 },
    Known { words: "map-shared 120", who: Child, kind: "copy", count: 0 },
];
/// There is nothing to track where files are in memory.
const ON_DISK: [Known; 1] = [Known { words: "shared-file FILE 90", who: Parent, kind: "shared", count: 90 }];

#[test]
fn all_kinds_of_faults_in_one_session() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let file = place.path().join("pages");
    fs::write(&file, vec![0x5a; usize::try_from(100 * page_size())?])?;
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let file = file.to_str().context("a path that is not UTF-8")?;
    let subjects = shared_copy(&program()?, place.path())?;
    let workload = shared_copy(&workload(), place.path())?;
    let mut known: Vec<_> = SUBJECTS.iter().map(|known| (&subjects, known)).collect();
    known.extend(WORKLOAD.iter().map(|known| (&workload, known)));
    if counts_copies() {
        known.extend(THREADS.iter().map(|known| (&subjects, known)));
    } else {
        skip("threads in all_kinds_of_faults", "this kernel does not tell whose a thread is when it ends");
    }
    if in_memory(place.path())? {
        skip("shared-file in all_kinds_of_faults", "files are in memory here");
    } else {
        known.extend(ON_DISK.iter().map(|known| (&workload, known)));
    }
    let lines: Vec<String> = known
        .iter()
        .map(|(program, known)| format!("{} {}", program.display(), known.words.replace("FILE", file)))
        .collect();
    let mut script = lines.clone();
    // A program with two known figures runs once.
    script.dedup();
    let script = format!("{}; :", script.join(" && "));

    let _accounting = Setting::delay_accounting()?;
    let listener = Listener::start()?;
    let traced = traced_as_marker(&[], &shell(&script))?;
    let exited = listener.finish()?;
    let report = traced.complete()?;
    let outcome = compare(&report, &exited)?;
    outcome.say("all kinds of faults");
    outcome.exact()?;
    regions_sum_up(&report)?;
    for process in processes(&report)? {
        ensure!(
            [Value::Null, 0.into()].contains(&process["faults"]["pinned"]),
            "nothing is pinned: {process}"
        );
    }
    for (line, (_, known)) in lines.iter().zip(&known) {
        check(&report, line, known).with_context(|| known.words.to_owned())?;
    }
    Ok(())
}

fn check(report: &Value, line: &str, known: &Known) -> Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let of_program = |process: &Value| {
        let cmdline = process["cmdline"].as_array();
        cmdline.is_some_and(|cmdline| cmdline.iter().eq(words.iter().copied()))
    };
    let of_program: Vec<&Value> =
        processes(report)?.into_iter().filter(|process| of_program(process)).collect();
    let parent = of_program.first().context("it did not run")?;
    let process = match known.who {
        Parent => parent,
        Child => {
            of_program.iter().find(|process| process["forked_from"] == parent["pid"]).context("no child")?
        }
    };
    let region = top_region(process, known.kind)?;
    let counted = number(region, &format!("/faults/{}", known.kind))?;
    // None at all means none in the mapping; the C library has a few of its own.
    let right = if known.count == 0 { counted < 10 } else { counted == known.count };
    ensure!(right, "{counted} {} instead of {}: {region}", known.kind, known.count);
    Ok(())
}
