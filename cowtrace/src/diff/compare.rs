//! The comparison: sums by name on both sides, held against each other.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{Change, DIFF_SCHEMA, Diff, Figures, Rate, Row, Side, figures::Sum, warnings::warnings};
use crate::model::{Folded, Process, RegionFaults, Report, StackKind, Stacks};

/// Bytes of a command name that the kernel keeps.
const COMM_BYTES: usize = 15;

/// Compares two reports, each with the name of its file.
pub fn diff((a_file, a): (&str, &Report), (b_file, b): (&str, &Report)) -> Diff {
    let (a_total, b_total) = (total(a), total(b));
    let totals = a_total.change_to(b_total);
    let processes = rows([by_process(a), by_process(b)], [a_total, b_total]);
    let regions = match has_regions(a) && has_regions(b) {
        true => rows([by_region(a), by_region(b)], [total_of_regions(a), total_of_regions(b)]),
        false => Vec::new(),
    };
    let stacks = match (&a.stacks, &b.stacks) {
        (Some(of_a), Some(of_b)) => {
            let names = [by_stack(of_a, a.kernel.page_size), by_stack(of_b, b.kernel.page_size)];
            let totals = names.each_ref().map(sum);
            rows(names, totals)
        }
        _ => Vec::new(),
    };
    let unchanged = |row: &Row| row.figures.is_none() && row.count.is_none();
    Diff {
        schema: DIFF_SCHEMA,
        a: Side::new(a_file, a),
        b: Side::new(b_file, b),
        warnings: warnings(a, b),
        same: totals.is_none()
            && has_regions(a) == has_regions(b)
            && a.stacks.is_some() == b.stacks.is_some()
            && processes.iter().chain(&regions).chain(&stacks).all(unchanged),
        totals,
        copies_per_second: Rate::new(&totals.copy, a.duration_ns, b.duration_ns),
        processes,
        regions,
        stacks,
    }
}

/// Whether faults were attributed to mappings.
pub(super) fn has_regions(report: &Report) -> bool {
    report.processes.iter().any(|process| !process.regions.is_empty())
}

/// The command's name; with the program's, if that is another one.
pub fn process_name(process: &Process) -> String {
    let comm = &process.comm;
    let program = match process.cmdline.as_slice() {
        // A title that it gave itself instead of arguments: with the numbers in it, each worker would have a name of its own.
        [title] if title.contains(' ') => title.split(' ').next().unwrap_or_default().trim_end_matches(':'),
        words => words.first().map(String::as_str).unwrap_or_default(),
    };
    let program = program.rsplit('/').next().unwrap_or_default();
    match program {
        "" => comm.clone(),
        // The kernel keeps the begin of a long name.
        _ if program.starts_with(comm.as_str()) && comm.len() == COMM_BYTES => program.to_owned(),
        // A login shell.
        _ if program.trim_start_matches('-') == comm => comm.clone(),
        _ => format!("{comm} ({program})"),
    }
}

/// How many there are of a name, and what they counted.
type ByName = BTreeMap<String, (u64, Sum)>;

fn add(names: &mut ByName, name: String, count: u64, sum: Sum) {
    let entry = names.entry(name).or_insert((0, Sum::ZERO));
    *entry = (entry.0 + count, entry.1.plus(sum));
}

fn of_process(process: &Process) -> Sum {
    let faults = &process.faults;
    Sum { copy: faults.copy, zero: faults.zero, file: faults.file, copied_bytes: process.copied_bytes }
}

fn of_folded(folded: &Folded) -> Sum {
    let faults = &folded.faults;
    Sum { copy: faults.copy, zero: faults.zero, file: faults.file, copied_bytes: folded.copied_bytes }
}

/// As the report's screen has it: huge pages are not among a mapping's bytes.
fn of_region(region: &RegionFaults, page_size: u64) -> Sum {
    let f = &region.faults;
    let pages: Option<u64> = [f.copy, f.file, f.ksm].into_iter().sum();
    let copied_bytes = pages.map(|pages| pages.saturating_mul(page_size));
    Sum { copy: f.copy, zero: f.zero, file: f.file, copied_bytes }
}

fn total(report: &Report) -> Sum {
    let folded = report.folded.iter().map(of_folded);
    report.processes.iter().map(of_process).chain(folded).fold(Sum::ZERO, Sum::plus)
}

fn total_of_regions(report: &Report) -> Sum {
    sum(&by_region(report))
}

fn sum(names: &ByName) -> Sum {
    names.values().map(|(_, sum)| *sum).fold(Sum::ZERO, Sum::plus)
}

fn by_process(report: &Report) -> ByName {
    let mut names = ByName::new();
    for process in &report.processes {
        add(&mut names, process_name(process), 1, of_process(process));
    }
    for folded in &report.folded {
        add(&mut names, folded.comm.clone(), folded.processes, of_folded(folded));
    }
    names
}

fn by_region(report: &Report) -> ByName {
    let mut names = ByName::new();
    for region in report.processes.iter().flat_map(|process| &process.regions) {
        let name = if region.name.is_empty() { "[anon]".to_owned() } else { region.name.clone() };
        add(&mut names, name, 1, of_region(region, report.kernel.page_size));
    }
    names
}

/// Bytes are those of small pages, as those of mappings are.
fn by_stack(stacks: &Stacks, page_size: u64) -> ByName {
    let mut names = ByName::new();
    // A process's stack has one count for each kind.
    let mut counted = BTreeSet::new();
    for stack in &stacks.stacks {
        let only = |kind: StackKind| Some(if stack.kind == kind { stack.count } else { 0 });
        let copies = matches!(stack.kind, StackKind::Copy | StackKind::File | StackKind::Ksm);
        let pages = if copies { stack.count } else { 0 };
        let name = stack.name();
        let entry = names.entry(name.clone()).or_insert((0, Sum::ZERO));
        entry.1 = entry.1.plus(Sum {
            copy: only(StackKind::Copy),
            zero: only(StackKind::Zero),
            file: only(StackKind::File),
            copied_bytes: Some(pages.saturating_mul(page_size)),
        });
        entry.0 += u64::from(counted.insert((stack.pid, name)));
    }
    names
}

/// One row for each name of either side. What a side does not know of anything, it does not know of a name that it does not
/// have.
fn rows([mut a, mut b]: [ByName; 2], totals: [Sum; 2]) -> Vec<Row> {
    let names: Vec<String> =
        a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))).cloned().collect();
    let [a_none, b_none] = totals.map(|total| (0, nothing_of(total)));
    let row = |name: String| {
        let (a_count, a_sum) = a.remove(&name).unwrap_or(a_none);
        let (b_count, b_sum) = b.remove(&name).unwrap_or(b_none);
        Row { name, count: Change::new(Some(a_count), Some(b_count)), figures: a_sum.change_to(b_sum) }
    };
    let mut rows: Vec<Row> = names.into_iter().map(row).collect();
    let weight = |figures: &Figures| figures.weight();
    rows.sort_by(|one, other| {
        let key = |row: &Row| Reverse((weight(&row.figures), row.count.size()));
        key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
    });
    rows
}

/// 0 of what is known.
fn nothing_of(total: Sum) -> Sum {
    let none = |value: Option<u64>| value.map(|_| 0);
    Sum {
        copy: none(total.copy),
        zero: none(total.zero),
        file: none(total.file),
        copied_bytes: none(total.copied_bytes),
    }
}
