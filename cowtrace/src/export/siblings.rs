//! What one fork of a server costs that forks many: the forks of each parent, summed up, for people.

use std::collections::BTreeMap;

use super::{
    Style,
    table::{Columns, Tone, bytes, duration, shorten, thousands},
};
use crate::model::{Fork, ForkEnd, ForkKind, Report};

/// Forks of one parent that are summed up, and the copies of their children that make it worth it.
const FEWEST: usize = 4;
const WORTH_BYTES: u64 = 1 << 20;
/// Parents that are shown.
const SHOWN: usize = 3;

/// A table for each of the parents whose children copied most. Forks that end with an exec are left out: they are no
/// workers of a server, but ways to start a program.
pub(super) fn render(report: &Report, style: Style) -> String {
    let mut families: BTreeMap<u32, Vec<&Fork>> = BTreeMap::new();
    for fork in report.forks.iter().filter(|f| f.kind == ForkKind::Fork && f.ended_by != ForkEnd::Exec) {
        families.entry(fork.parent).or_default().push(fork);
    }
    let mut heavy: Vec<(u64, u32, Vec<&Fork>)> = families
        .into_iter()
        .map(|(parent, forks)| (forks.iter().filter_map(|f| f.child_copied_bytes).sum(), parent, forks))
        .filter(|(copied, _, forks)| forks.len() >= FEWEST && *copied >= WORTH_BYTES)
        .collect();
    heavy.sort_by_key(|&(copied, parent, _)| (std::cmp::Reverse(copied), parent));
    heavy.truncate(SHOWN);
    heavy.iter().map(|(_, parent, forks)| table(report, *parent, forks, style)).collect()
}

fn table(report: &Report, parent: u32, forks: &[&Fork], style: Style) -> String {
    let comm = report.processes.iter().rev().find(|process| process.pid == parent).map(|p| p.comm.as_str());
    let name = comm.map_or_else(String::new, |comm| format!(" ({comm})"));
    // Folded forks are not known by their parents.
    let which = if report.folded.is_empty() { "forks" } else { "kept forks" };
    let title = shorten(&format!("{} {which} of {parent}{name}", thousands(forks.len() as u64)), 36);
    let mut table = Columns::new(style, &[&title, "least", "median", "most", "sum"]);
    let mut row = |what: &str, value: fn(&Fork) -> Option<u64>, word: fn(u64) -> String, has_sum: bool| {
        let mut values: Vec<u64> = forks.iter().filter_map(|fork| value(fork)).collect();
        values.sort_unstable();
        let median = values.len().checked_sub(1).map(|last| values[last / 2]);
        let cell = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), word);
        let sum = median.filter(|_| has_sum).map_or_else(|| "·".to_owned(), |_| word(values.iter().sum()));
        let figures = [values.first().copied(), median, values.last().copied()].map(cell);
        table.row(&[vec![what.to_owned()], figures.to_vec(), vec![sum]].concat(), Tone::Plain);
    };
    row("copied by the child", |fork| fork.child_copied_bytes, bytes, true);
    row("fork()", |fork| fork.fork_ns, duration, true);
    row("page tables", |fork| fork.page_table_kb.map(|kb| kb * 1024), bytes, true);
    row("lifetime of those that ended", |fork| fork.lifetime_ns, duration, false);
    format!("\n{}", table.render())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::human_tests::report;

    const WIDE: Style = Style { color: false, width: 100 };

    /// As many forks as sizes, of the report's first process.
    fn forks_of(sizes: &[Option<u64>], ended_by: ForkEnd) -> Report {
        let mut report = report();
        let fork = report.forks[0].clone();
        report.forks = (1u64..)
            .zip(sizes)
            .map(|(nth, &size)| Fork {
                ended_by,
                fork_ns: Some(nth * 100_000),
                lifetime_ns: (nth != 3).then_some(nth * 1_000_000_000),
                child_copied_bytes: size,
                ..fork.clone()
            })
            .collect();
        report
    }

    #[test]
    fn what_one_of_many_forks_costs() {
        let sizes = [900_000, 700_000, 800_000, 880_000, 860_000].map(Some);
        insta::assert_snapshot!(render(&forks_of(&sizes, ForkEnd::Exit), WIDE));
    }

    #[test]
    fn what_is_not_known_is_left_out_or_marked() {
        let mut report = forks_of(&[Some(900_000), None, Some(900_000), None], ForkEnd::Running);
        report.forks.iter_mut().for_each(|fork| fork.fork_ns = None);
        insta::assert_snapshot!(render(&report, WIDE));
    }

    #[test]
    fn few_forks_cheap_ones_and_those_that_start_programs_are_not_summed_up() {
        let big = Some(1 << 20);
        for (report, why) in [
            (forks_of(&[big; 3], ForkEnd::Exit), "few"),
            (forks_of(&[Some(4096); 9], ForkEnd::Exit), "cheap"),
            (forks_of(&[big; 9], ForkEnd::Exec), "programs"),
        ] {
            assert_eq!(render(&report, WIDE), "", "{why}");
        }
    }
}
