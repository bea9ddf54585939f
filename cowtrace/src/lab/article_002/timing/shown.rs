//! The tables and curves of `fork-timing`.

use super::{Measured, rung::Rung};
use crate::lab::{
    report::{Axis, Curve, Figures, Series},
    size::Bytes,
};

/// 40 GiB, of which one source asks why a fork is cheap.
const LARGE_MIB: f64 = 40.0 * 1024.0;

/// The source's table with the shares of the time, and fork alone.
pub(super) fn tables(measured: &Measured<'_>) -> [Figures; 2] {
    [cycles(measured), forks(measured)]
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

fn ms(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e6)
}

fn percent(part: f64, of: u64) -> String {
    format!("{:.0} %", 100.0 * part / of.max(1) as f64)
}

fn cycles(measured: &Measured<'_>) -> Figures {
    let rows = |rung: &Rung| Some([row(measured, rung, false)?, row(measured, rung, true)?]);
    Figures {
        title:
            "From fork to the child's end, under the tracer, which makes a copy about 1.14 times as dear; \
                shares of the median"
                .to_owned(),
        columns: words([
            "memory",
            "child",
            "forks",
            "mean, ms",
            "median, ms",
            "fork",
            "of it page tables",
            "writing",
            "start, end, wait",
        ]),
        rows: measured.rungs.iter().filter_map(rows).flatten().collect(),
    }
}

fn row(measured: &Measured<'_>, rung: &Rung, writing: bool) -> Option<Vec<String>> {
    let (cycles, whole, fork, write) = if writing {
        (&rung.writing, rung.writing_whole_ns()?, rung.writing_fork_ns()?, rung.write_ns()?)
    } else {
        (&rung.idle, rung.idle_whole_ns()?, rung.fork_ns()?, 0)
    };
    let mean = cycles.iter().map(|cycle| cycle.whole_ns).sum::<u64>() / cycles.len().max(1) as u64;
    let rest = whole.saturating_sub(fork + write);
    Some(vec![
        Bytes(rung.bytes).to_string(),
        (if writing { "writes all" } else { "does nothing" }).to_owned(),
        cycles.len().to_string(),
        ms(mean),
        ms(whole),
        percent(fork as f64, whole),
        percent(measured.growing_part(rung.mib()) * fork as f64, whole),
        percent(write as f64, whole),
        percent(rest as f64, whole),
    ])
}

fn forks(measured: &Measured<'_>) -> Figures {
    let us = |ns: f64| format!("{:.0}", ns / 1e3);
    let line = measured.line;
    let row = |rung: &Rung| {
        Some(vec![
            Bytes(rung.bytes).to_string(),
            us(rung.fork_ns()? as f64),
            us(rung.fastest_fork_ns()? as f64),
            us(line.at(rung.mib())),
            measured.page_tables_kb(rung)?.to_string(),
            percent(measured.growing_part(rung.mib()), 1),
        ])
    };
    let mut rows: Vec<Vec<String>> = measured.rungs.iter().filter_map(row).collect();
    rows.push(vec![
        "40G (not measured)".to_owned(),
        String::new(),
        String::new(),
        us(line.at(LARGE_MIB)),
        String::new(),
        percent(measured.growing_part(LARGE_MIB), 1),
    ]);
    Figures {
        title: format!(
            "fork alone, nothing written; the line is {:.0} µs and {:.1} µs for each MiB",
            line.fixed / 1e3,
            line.slope / 1e3
        ),
        columns: words([
            "memory",
            "median, µs",
            "fastest, µs",
            "by the line, µs",
            "page tables of the child, kB",
            "grows with size",
        ]),
        rows,
    }
}

/// Time against size: fork alone, and from fork to the child's end.
pub(super) fn curves(measured: &Measured<'_>) -> [Curve; 2] {
    let x = Axis { label: "memory of the parent", unit: "MiB" };
    let points = |unit_ns: f64, of: fn(&Rung) -> Option<u64>| -> Vec<[f64; 2]> {
        let point = |rung: &Rung| Some([rung.mib(), of(rung)? as f64 / unit_ns]);
        measured.rungs.iter().filter_map(point).collect()
    };
    let series = |name: &str, points| Series { name: name.to_owned(), measured: true, points };
    let line = measured.line;
    let by_line = [0.0, measured.largest.mib()].map(|mib| [mib, line.at(mib) / 1e3]).into();
    [
        Curve {
            title: "Time of fork by the memory of the parent".to_owned(),
            x,
            y: Axis { label: "fork", unit: "µs" },
            series: vec![
                series("nothing written", points(1e3, Rung::fork_ns)),
                series("child writes all", points(1e3, Rung::writing_fork_ns)),
                Series { name: "fixed part and part per MiB".to_owned(), measured: false, points: by_line },
            ],
        },
        Curve {
            title: "From fork to the child's end by the memory of the parent".to_owned(),
            x,
            y: Axis { label: "fork to end", unit: "ms" },
            series: vec![
                series("nothing written", points(1e6, Rung::idle_whole_ns)),
                series("child writes all", points(1e6, Rung::writing_whole_ns)),
            ],
        },
    ]
}
