//! Lines of faults, as users see them.

use std::sync::Arc;

use cowtrace_abi::Kind;

use super::trace::*;
use crate::model::{Faults, Lost, Perms, Region, TraceTotals, TracedFault, TracerCost, Writer};

pub(super) fn faults() -> Vec<TracedFault> {
    let region = |name: &str| {
        Some(Region {
            start: 0x7f12_3456_0000,
            end: 0x7f12_3466_0000,
            perms: Perms::PRIVATE,
            name: name.into(),
        })
    };
    let first = TracedFault {
        at_ns: 12_345_678,
        pid: 4711,
        tid: 4711,
        comm: "redis-server".into(),
        kind: Kind::Copy,
        address: 0x7f12_3456_7008,
        pages: 1,
        region: region("[heap]"),
        ip: Some(0x5555_0000_1234),
        function: Some("dictSetVal".into()),
        writer: Some(Writer::User),
        took_ns: Some(2345),
    };
    let second = TracedFault {
        at_ns: 3_000_000_000,
        tid: 4715,
        comm: "a\nb".into(),
        kind: Kind::FileFirstWrite,
        region: region("/usr/lib/libc.so.6"),
        function: Some("__read".into()),
        writer: Some(Writer::Kernel),
        ..first.clone()
    };
    let third = TracedFault {
        kind: Kind::Anon,
        pages: 512,
        region: None,
        ip: None,
        function: None,
        writer: None,
        took_ns: None,
        comm: Arc::default(),
        ..first.clone()
    };
    let fourth = TracedFault { region: region(""), function: Some("[unknown]".into()), ..first.clone() };
    vec![first, second, third, fourth]
}

fn totals(lost: u64) -> TraceTotals {
    TraceTotals { shown: vec![("copy", 5005), ("zero", 1)], filtered: if lost > 0 { 7 } else { 0 }, lost }
}

#[test]
fn lines_for_people() {
    let mut text = String::new();
    for times in [false, true] {
        trace_header(&mut text, times);
        for fault in faults() {
            trace_line(&mut text, &fault, times);
        }
    }
    trace_lost_line(&mut text, 12_345);
    text.push_str(&trace_summary(&totals(0), &Lost::default()));
    let lost = Lost { events: 12_347, processes: 1, ..Lost::default() };
    text.push_str(&trace_summary(&totals(12_345), &lost));
    text.push_str(&trace_summary(&TraceTotals::default(), &Lost::default()));
    insta::assert_snapshot!(text);
}

#[test]
fn columns_stay_where_they_are_with_the_longest_ids() {
    let with = |pid: u32, tid: u32| {
        let mut text = String::new();
        let fault = TracedFault { pid, tid, comm: "redis".into(), ..faults().remove(0) };
        trace_line(&mut text, &fault, false);
        text
    };
    let mut header = String::new();
    trace_header(&mut header, false);
    let (kind, address) = (header.find("KIND"), header.find("ADDRESS"));
    for (pid, tid) in [(1, 1), (99_998, 99_999), (4_194_303, 4_194_304)] {
        let line = with(pid, tid);
        assert_eq!((line.find("copy "), line.find("7f1234567008")), (kind, address), "{header}{line}");
    }
    assert!(with(4_194_303, 4_194_304).contains("4194303/4194304 redis "));
}

#[test]
fn json_lines() {
    let mut bytes = Vec::new();
    for (fault, times) in faults().iter().zip([false, true, true, false]) {
        trace_json(&mut bytes, fault, times).unwrap();
    }
    trace_lost_json(&mut bytes, 12_345).unwrap();
    let counted = Faults { copy: Some(17_350), zero: Some(1), ..Faults::default() };
    let lost = Lost { events: 12_345, ..Lost::default() };
    let tracer = TracerCost { cpu_ns: 9, max_rss_kb: 8 };
    trace_summary_json(&mut bytes, &totals(12_345), &lost, &counted, &tracer).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    insta::assert_snapshot!(text);
}
