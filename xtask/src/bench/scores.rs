//! The arithmetic of the benchmark: medians and ratios, as a table and as JSON.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use super::contender::Contender;

/// What one contender's runs gave.
#[derive(Default)]
pub struct Scores {
    ns_per_fault: Vec<f64>,
    ratios: Vec<f64>,
}

/// A sample in three numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Scores {
    /// Adds a run of `ns` nanoseconds, and the untraced time that it is held against.
    pub fn add(&mut self, ns: f64, pages: u64, untraced_ns: Option<f64>) {
        self.ns_per_fault.push(ns / pages as f64);
        self.ratios.extend(untraced_ns.map(|untraced| ns / untraced));
    }

    /// Nanoseconds per fault.
    pub fn ns(&self) -> Option<Spread> {
        spread(&self.ns_per_fault)
    }

    /// Traced against untraced.
    pub fn ratio(&self) -> Option<Spread> {
        spread(&self.ratios)
    }
}

fn spread(sample: &[f64]) -> Option<Spread> {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    Some(Spread { median, min, max })
}

/// The table for people.
pub fn table(pages: u64, untraced: &Scores, entries: &[(Contender, Result<Scores>)]) -> String {
    let mut rows = vec![["contender", "ns per fault", "ratio", "min", "max", "runs"].map(str::to_owned)];
    rows.push(row(Contender::Untraced, untraced));
    rows.extend(entries.iter().filter_map(|(who, scores)| Some(row(*who, scores.as_ref().ok()?))));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);

    let mut table =
        format!("{pages} copy-on-write faults a run, medians; ratio: to the untraced runs around each\n\n");
    for [contender, numbers @ ..] in &rows {
        let mut line = format!("{contender:<0$}", widths[0]);
        for (number, width) in numbers.iter().zip(&widths[1..]) {
            line += &format!("  {number:>width$}");
        }
        table += &(line + "\n");
    }
    for (contender, scores) in entries {
        if let Err(reason) = scores {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{}  not run: {reason:#}", contender.name());
        }
    }
    table
}

fn row(contender: Contender, scores: &Scores) -> [String; 6] {
    let number =
        |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let (ns, ratio) = (scores.ns(), scores.ratio());
    [
        contender.name().to_owned(),
        number(ns.map(|ns| ns.median), 0),
        number(ratio.map(|ratio| ratio.median), 3),
        number(ratio.map(|ratio| ratio.min), 3),
        number(ratio.map(|ratio| ratio.max), 3),
        scores.ns_per_fault.len().to_string(),
    ]
}

/// The same for programs.
pub fn json(pages: u64, pairs: u64, untraced: &Scores, entries: &[(Contender, Result<Scores>)]) -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let of_spread =
        |spread: Option<Spread>| spread.map(|s| json!({"median": s.median, "min": s.min, "max": s.max}));
    let scores = |who: Contender, scores: &Scores| -> Value {
        json!({"name": who.name(), "runs": scores.ns_per_fault.len(), "ns_per_fault": of_spread(scores.ns()),
               "ratio": of_spread(scores.ratio())})
    };
    let mut contenders = vec![scores(Contender::Untraced, untraced)];
    contenders.extend(entries.iter().map(|(who, result)| match result {
        Ok(result) => scores(*who, result),
        Err(reason) => json!({"name": who.name(), "not_run": format!("{reason:#}")}),
    }));
    let cpus = std::thread::available_parallelism().ok().map(usize::from);
    format!(
        "{:#}",
        json!({"schema": "cowtrace.bench/1", "kernel": release.trim(), "cpus": cpus, "pages": pages,
               "pairs": pairs, "contenders": contenders})
    )
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_numbers() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).map(|s| s.median), Some(2.5));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_to_the_neighbouring_untraced_run() {
        let mut scores = Scores::default();
        scores.add(300.0, 100, Some(200.0));
        scores.add(220.0, 100, Some(200.0));
        scores.add(240.0, 100, Some(200.0));
        assert_eq!(scores.ratio(), Some(Spread { median: 1.2, min: 1.1, max: 1.5 }));
        assert_eq!(scores.ns().map(|ns| ns.median), Some(2.4));
    }

    fn example() -> (Scores, Vec<(Contender, Result<Scores>)>) {
        let (mut untraced, mut ours) = (Scores::default(), Scores::default());
        untraced.add(220_000.0, 100, None);
        ours.add(264_000.0, 100, Some(220_000.0));
        (untraced, vec![(Contender::NoRegions, Ok(ours)), (Contender::PerfStat, Err(anyhow!("no perf")))])
    }

    #[test]
    fn the_table_is_aligned_and_tells_what_did_not_run() {
        let (untraced, entries) = example();
        let expected = "\
contender                  ns per fault  ratio    min    max  runs
untraced                           2200      -      -      -     1
cowtrace run --no-regions          2640  1.200  1.200  1.200     1
perf stat -a, one counter  not run: no perf
";
        assert!(table(100, &untraced, &entries).ends_with(expected));
    }

    #[test]
    fn the_json_has_every_contender() -> Result<()> {
        let (untraced, entries) = example();
        let value: Value = serde_json::from_str(&json(100, 1, &untraced, &entries))?;
        assert_eq!(value["contenders"][1]["ratio"]["median"], 1.2);
        assert_eq!(value["contenders"][2]["not_run"], "no perf");
        Ok(())
    }
}
