//! The map of a mapping, page by page: what is said of a letter, and of a whole map.

use super::{facts::Seen, words::count};
use crate::lab::report::PageMap;

/// A letter of a map, and what it stands for.
type Letter = (char, &'static str);

/// States of a page, in the order of the legend.
const STATES: [Letter; 3] =
    [('p', "private (mapped by this process alone)"), ('s', "shared"), ('.', "not in memory")];

/// Kinds of a page's last fault.
const FAULTS: [Letter; 10] = [
    ('a', "first touch"),
    ('c', "copy"),
    ('z', "zero page replaced"),
    ('f', "file copy"),
    ('k', "KSM copy"),
    ('h', "hugetlb copy"),
    ('p', "pinned copy"),
    ('r', "reuse"),
    ('s', "shared write"),
    ('d', "denied"),
];

/// Maps that are shown: of each process, and in all.
const OF_A_PROCESS: usize = 4;
const IN_ALL: usize = 8;
/// Runs of a map that are told one by one.
const FEW_RUNS: usize = 24;

/// The maps that are shown: all, or, where there are many, the first and the last ones of each process; and how
/// many are left out.
pub(super) fn shown<'a>(seen: &[Seen<'a>]) -> (Vec<Seen<'a>>, usize) {
    let maps: Vec<Seen<'a>> = seen.iter().filter(|entry| entry.process.pages.is_some()).copied().collect();
    if maps.len() <= IN_ALL {
        return (maps, 0);
    }
    let few: Vec<Seen<'a>> = maps
        .chunk_by(|a, b| a.process.pid == b.process.pid)
        .flat_map(|part| {
            let last = part.len().saturating_sub(OF_A_PROCESS - 1).max(1);
            part[..1].iter().chain(&part[last..]).copied()
        })
        .collect();
    let left_out = maps.len() - few.len();
    (few, left_out)
}

/// What is said of the maps that are left out.
pub(super) fn left_out_sentence(left_out: usize) -> Option<String> {
    let verb = if left_out == 1 { "is" } else { "are" };
    let maps = count(left_out as u64, "map", "maps");
    (left_out > 0).then(|| format!("{maps} between the first and the last ones {verb} left out here."))
}

/// What a state's letter stands for.
fn state(letter: char) -> &'static str {
    STATES.iter().find(|(known, _)| *known == letter).map_or("unknown", |(_, name)| name)
}

/// What a fault's letter stands for; `None` for the dot, which is no fault.
fn fault(letter: char) -> Option<&'static str> {
    FAULTS.iter().find(|(known, _)| *known == letter).map(|(_, name)| *name)
}

/// The letters that occur in these maps, with their meaning: states, then faults.
pub(super) fn legend(maps: &[Seen<'_>]) -> (Vec<Letter>, Vec<Letter>) {
    let occurs = |part: fn(&PageMap) -> &str| {
        move |(letter, _): &Letter| {
            maps.iter().filter_map(|map| map.process.pages.as_ref()).any(|map| part(map).contains(*letter))
        }
    };
    (
        STATES.into_iter().filter(occurs(|map| &map.state)).collect(),
        FAULTS.into_iter().filter(occurs(|map| &map.faulted)).collect(),
    )
}

/// The map's legend in a sentence.
pub(super) fn legend_sentence(maps: &[Seen<'_>]) -> String {
    let (states, faults) = legend(maps);
    let list = |letters: Vec<Letter>| {
        letters.iter().map(|(letter, name)| format!("{letter} {name}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("Page by page: {}.", list(states));
    if !faults.is_empty() {
        text.push_str(&format!(
            " Below it, a page's last fault since the checkpoint before: {}.",
            list(faults)
        ));
    }
    text
}

/// Pages in a row that look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub first: usize,
    pub pages: usize,
    pub state: char,
    pub fault: char,
}

/// The map as runs.
fn runs(map: &PageMap) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (first, (state, fault)) in map.state.chars().zip(map.faulted.chars()).enumerate() {
        match runs.last_mut() {
            Some(run) if run.state == state && run.fault == fault => run.pages += 1,
            _ => runs.push(Run { first, pages: 1, state, fault }),
        }
    }
    runs
}

/// The map as runs, if these are few and its pages many.
pub(super) fn as_runs(map: &PageMap, many: usize) -> Option<Vec<Run>> {
    (map.state.len() > many).then(|| runs(map)).filter(|runs| runs.len() <= FEW_RUNS)
}

/// `private, copy`.
pub(super) fn named(run: Run) -> String {
    match fault(run.fault) {
        Some(fault) => format!("{}, {fault}", state(run.state)),
        None => state(run.state).to_owned(),
    }
}

/// The map in a sentence, for those who do not see it.
pub(super) fn described(map: &PageMap) -> String {
    let of = |letter: char| map.state.chars().filter(|state| *state == letter).count() as u64;
    let faults = FAULTS.iter().filter_map(|(letter, name)| {
        let pages = map.faulted.chars().filter(|fault| fault == letter).count();
        (pages > 0).then(|| format!("{name} on {pages}"))
    });
    let faults: Vec<String> = faults.collect();
    let faults = if faults.is_empty() { "no fault".to_owned() } else { faults.join(", ") };
    format!(
        "{}: {} private, {} shared, {} not in memory; {faults} since the checkpoint before",
        count(map.state.len() as u64, "page", "pages"),
        of('p'),
        of('s'),
        of('.')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_long_as_pages_look_alike() {
        let map = PageMap { state: "ppps.".into(), faulted: "cc...".into() };
        let shape: Vec<_> =
            runs(&map).iter().map(|run| (run.first, run.pages, run.state, run.fault)).collect();
        assert_eq!(shape, [(0, 2, 'p', 'c'), (2, 1, 'p', '.'), (3, 1, 's', '.'), (4, 1, '.', '.')]);
        assert_eq!(
            described(&map),
            "5 pages: 3 private, 1 shared, 1 not in memory; copy on 2 since the checkpoint before"
        );
    }
}
