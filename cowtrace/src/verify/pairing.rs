//! Which of the kernel's exit records is which traced process's: by process id, and by order and lifetime where an id
//! was used again.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use crate::{model::Process, proc::Exited};

/// Who is who.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    /// For each traced process, the place of its record.
    pub record_of: Vec<Option<usize>>,
    /// Places of the records of processes whose parent was traced, and they were not.
    pub untraced: Vec<usize>,
}

/// Finds the record of each traced process that has ended.
pub(super) fn pair(processes: &[Process], exits: &[Exited]) -> Pairs {
    let mut records: HashMap<u32, Vec<usize>> = HashMap::new();
    for (place, exit) in exits.iter().enumerate() {
        records.entry(exit.pid).or_default().push(place);
    }
    let mut traced: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, process) in processes.iter().enumerate().filter(|(_, process)| process.end_ns.is_some()) {
        traced.entry(process.pid).or_default().push(index);
    }
    let mut record_of = vec![None; processes.len()];
    for (pid, ours) in &traced {
        let theirs = records.get(pid).map_or(&[][..], Vec::as_slice);
        let lives: Vec<u64> = ours.iter().map(|&index| lifetime_us(&processes[index])).collect();
        let recorded: Vec<u64> = theirs.iter().map(|&place| exits[place].lifetime_us).collect();
        // Both are in the order of time: nothing but a choice is left where one side has more.
        if ours.len() <= theirs.len() {
            for (&index, place) in ours.iter().zip(fit(&lives, &recorded)) {
                record_of[index] = Some(theirs[place]);
            }
        } else {
            for (&place, index) in theirs.iter().zip(fit(&recorded, &lives)) {
                record_of[ours[index]] = Some(place);
            }
        }
    }
    let untraced = untraced(processes, &record_of, exits, &records);
    Pairs { record_of, untraced }
}

fn lifetime_us(process: &Process) -> u64 {
    process.end_ns.map_or(0, |end_ns| end_ns.saturating_sub(process.start_ns) / 1000)
}

/// For each figure of the shorter list a place in the longer one, in order, so that they differ least in all.
fn fit(short: &[u64], long: &[u64]) -> Vec<usize> {
    // cost[i][j]: the least for the first i of the one among the first j of the other.
    let mut cost = vec![vec![0u64; long.len() + 1]; short.len() + 1];
    for i in 1..=short.len() {
        for j in 0..=long.len() {
            cost[i][j] = if j < i {
                u64::MAX
            } else {
                let taken = cost[i - 1][j - 1].saturating_add(short[i - 1].abs_diff(long[j - 1]));
                taken.min(cost[i][j - 1])
            };
        }
    }
    let mut places = vec![0; short.len()];
    let mut j = long.len();
    for i in (1..=short.len()).rev() {
        while j > i && cost[i][j] == cost[i][j - 1] {
            j -= 1;
        }
        places[i - 1] = j - 1;
        j -= 1;
    }
    places
}

/// Records that are nobody's, of processes that ended as children of traced ones, or of each other.
fn untraced(
    processes: &[Process],
    record_of: &[Option<usize>],
    exits: &[Exited],
    records: &HashMap<u32, Vec<usize>>,
) -> Vec<usize> {
    let taken: HashSet<usize> = record_of.iter().flatten().copied().collect();
    let mut parents: HashMap<u32, Vec<Range<usize>>> = HashMap::new();
    for (process, record) in processes.iter().zip(record_of) {
        parents.entry(process.pid).or_default().push(life(process.pid, *record, exits, records));
    }
    let mut found: Vec<usize> = Vec::new();
    let mut candidates: Vec<usize> = (0..exits.len()).filter(|place| !taken.contains(place)).collect();
    loop {
        let is_child = |place: &usize| {
            let lives = parents.get(&exits[*place].ppid);
            lives.is_some_and(|lives| lives.iter().any(|life| life.contains(place)))
        };
        let (children, rest): (Vec<usize>, Vec<usize>) = candidates.into_iter().partition(is_child);
        if children.is_empty() {
            found.sort_unstable();
            return found;
        }
        for &place in &children {
            let pid = exits[place].pid;
            parents.entry(pid).or_default().push(life(pid, Some(place), exits, records));
        }
        found.extend(children);
        candidates = rest;
    }
}

/// Places of the records of its children: before its own, and after that of the process that had its id before.
fn life(
    pid: u32,
    record: Option<usize>,
    exits: &[Exited],
    records: &HashMap<u32, Vec<usize>>,
) -> Range<usize> {
    let end = record.unwrap_or(exits.len());
    let before = records.get(&pid).and_then(|places| places.iter().rev().find(|&&place| place < end));
    before.map_or(0, |place| place + 1)..end
}

#[cfg(test)]
mod tests {
    use super::{super::tests::process, *};

    fn exit(pid: u32, ppid: u32, lifetime_us: u64) -> Exited {
        Exited { pid, ppid, lifetime_us, whole: true, ..Exited::default() }
    }

    /// With this lifetime; `None`: it runs.
    fn lived(pid: u32, ms: Option<u64>) -> Process {
        let mut process = process(pid, 0);
        process.end_ns = ms.map(|ms| process.start_ns + ms * 1_000_000);
        process
    }

    #[test]
    fn a_reused_id_is_paired_in_order() {
        let ours = [lived(7, Some(5)), lived(8, Some(1)), lived(7, Some(5))];
        let theirs = [exit(7, 1, 5000), exit(9, 1, 3), exit(7, 1, 5000), exit(8, 1, 1000)];
        let pairs = pair(&ours, &theirs);
        assert_eq!(pairs.record_of, [Some(0), Some(3), Some(2)]);
    }

    #[test]
    fn of_more_records_the_ones_with_the_right_lifetimes_are_taken() {
        let ours = [lived(7, Some(5)), lived(7, Some(2))];
        // Others had the id before, in between and after.
        let theirs = [900, 5010, 70, 1990, 400].map(|us| exit(7, 1, us));
        assert_eq!(pair(&ours, &theirs).record_of, [Some(1), Some(3)]);
    }

    #[test]
    fn of_more_processes_those_that_fit_get_the_records() {
        let ours = [lived(7, Some(5)), lived(7, Some(50)), lived(7, Some(2))];
        assert_eq!(pair(&ours, &[exit(7, 1, 50_020)]).record_of, [None, Some(0), None]);
        assert_eq!(pair(&ours, &[]).record_of, [None; 3]);
    }

    #[test]
    fn a_process_that_runs_has_no_record() {
        let ours = [lived(7, Some(5)), lived(7, None)];
        assert_eq!(pair(&ours, &[exit(7, 1, 5000)]).record_of, [Some(0), None]);
    }

    #[test]
    fn children_of_traced_processes_and_theirs_are_found() {
        let ours = [lived(100, Some(9)), lived(200, None)];
        let theirs = [
            exit(103, 102, 1),
            exit(102, 100, 1),
            exit(300, 1, 1),
            exit(100, 50, 9000),
            exit(201, 200, 1),
            // After its supposed parent's end: that was another one.
            exit(104, 100, 1),
        ];
        assert_eq!(pair(&ours, &theirs).untraced, [0, 1, 4]);
    }

    #[test]
    fn children_of_the_process_that_had_the_id_before_are_not_ours() {
        let ours = [lived(100, Some(9))];
        let theirs = [exit(105, 100, 1), exit(100, 1, 800_000), exit(106, 100, 1), exit(100, 1, 9000)];
        let pairs = pair(&ours, &theirs);
        assert_eq!((pairs.record_of, pairs.untraced), (vec![Some(3)], vec![2]));
    }
}
