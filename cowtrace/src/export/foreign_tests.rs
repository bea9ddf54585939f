//! Names and arguments that somebody made to do harm: no form of a report for people hands them to the terminal.

use std::sync::Arc;

use super::{
    Style, diff, doctor, flamegraph, folded, human, human_tests, is_printable, json, page_picture, pages,
    trace_line, trace_tests, verify, verify_tests,
};
use crate::{
    diff::diff as compare,
    doctor::machines,
    model::{CowTime, Report, Stack, StackFrames, StackKind, Stacks},
};

/// Colours, a new row, a sound, the other direction, an 8-bit code, and what XML forbids.
const EVIL: &str = "a\x1b[41mb\nc\u{7}\u{202e}\u{9b}2J\u{ffff}d";
const STYLES: [Style; 2] = [Style { color: false, width: 120 }, Style { color: false, width: 60 }];

/// A name of the same length that does no harm.
fn harmless() -> String {
    EVIL.chars().map(|c| if is_printable(c) { c } else { '_' }).collect()
}

/// A report in which all that comes from outside is this.
fn report(name: &str) -> Report {
    let mut report = pages::tests::report();
    let text = || name.to_owned();
    report.command = vec![text(), text()];
    report.kernel.release = text();
    report.backend.unknown.push(format!("copy: {name}"));
    let time = CowTime { count: 7, total: 9000, p50: Some(1000), p99: Some(2000), max: Some(3000) };
    for (place, process) in report.processes.iter_mut().enumerate() {
        process.comm = text();
        process.cmdline = if place == 0 { Vec::new() } else { vec![text(), text()] };
        process.cow_ns = Some(time);
        process.regions.iter_mut().for_each(|region| region.name = text());
        if let Some(pages) = &mut process.pages {
            pages.strips.strips.iter_mut().for_each(|strip| strip.name = text());
            pages.repeated.iter_mut().for_each(|pages| pages.region = text());
        }
    }
    report.forks = vec![report.forks[0].clone(); 5];
    report.forks.iter_mut().for_each(|fork| fork.regions.iter_mut().for_each(|region| region.name = text()));
    report.folded = human_tests::folded();
    report.folded.iter_mut().for_each(|folded| folded.comm = text());
    let frames: Vec<Arc<str>> = vec![name.into(), format!("[/tmp/{name}+0x10]").into()];
    let stack = Stack { pid: 1, comm: name.into(), kind: StackKind::Copy, count: 700, frames };
    report.stacks = Some(Stacks { stacks: vec![stack], stack_frames: StackFrames::default() });
    report
}

/// What is shown with the evil name has the lines that it has with the harmless one, and nothing in them is obeyed.
fn is_safe(what: &str, shown: impl Fn(&str) -> String) {
    let (evil, good) = (shown(EVIL), shown(&harmless()));
    let found = evil.chars().find(|&c| c != '\n' && !is_printable(c));
    assert_eq!(found, None, "{what}: {evil}");
    assert!(evil.contains('\u{fffd}'), "{what} does not show it: {evil}");
    assert_eq!(evil.lines().count(), good.lines().count(), "{what}: {evil}\n{good}");
}

#[test]
fn the_report() {
    for style in STYLES {
        is_safe("report", |name| human(&report(name), &style, 20));
    }
}

#[test]
fn the_comparison() {
    for style in STYLES {
        is_safe("diff", |name| {
            let (a, mut b) = (report(name), report(name));
            b.processes[0].faults.copy = Some(77);
            b.processes[1].regions[0].faults.copy = Some(77);
            b.stacks.iter_mut().for_each(|stacks| stacks.stacks[0].count = 1);
            b.kernel.release.push('2');
            diff(&compare((name, &a), (name, &b)), &style, 20)
        });
    }
}

#[test]
fn the_verification() {
    for style in STYLES {
        is_safe("verify", |name| verify(&verify_tests::named(name, report(name)), &style));
    }
}

#[test]
fn the_lines_of_a_trace() {
    is_safe("trace", |name| {
        let mut text = String::new();
        for mut fault in trace_tests::faults() {
            fault.comm = name.into();
            fault.function = Some(name.into());
            fault.region.iter_mut().for_each(|region| region.name = name.into());
            trace_line(&mut text, &fault, true);
        }
        text
    });
}

#[test]
fn what_the_doctor_tells() {
    for style in STYLES {
        is_safe("doctor", |name| {
            let mut checkup = machines::this_machine();
            checkup.findings[0].found = name.to_owned();
            checkup.findings[1].costs = Some(name.to_owned());
            checkup.backends[0].refusal = Some(name.to_owned());
            doctor(&checkup, &style)
        });
    }
}

#[test]
fn pictures_are_xml() {
    is_safe("map", |name| page_picture(&report(name)));
    // Its script has tabs, whatever the names are.
    is_safe("flame graph", |name| {
        let stacks = report(name).stacks.unwrap();
        String::from_utf8(flamegraph(&stacks, name).unwrap()).unwrap().replace('\t', " ")
    });
}

#[test]
fn programs_get_what_there_is() {
    let text = String::from_utf8(json(&report(EVIL)).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap().command[0], EVIL);
    let folded = folded(&report(EVIL).stacks.unwrap());
    assert!(folded.lines().count() == 1 && folded.matches(';').count() == 2, "{folded:?}");
}
