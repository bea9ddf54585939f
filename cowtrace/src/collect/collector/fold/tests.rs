//! A session that folds has the sums of one that does not.

use cowtrace_abi::{CLONE_VM, COMM_LEN, CowTimes, Exec, Exit, Fork, KINDS, ProcSlot, Shared, moment, tag};

use super::*;
use crate::{
    collect::{
        collector::Ending,
        record::{Record, TimesSoFar},
    },
    model::{AddressSpace, Faults, KnownKinds, PageBatch, Report},
    probe::Backend,
};

const SHELL: u64 = 1;
const SECOND: u64 = 1_000_000_000;

/// Numbers as good as chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What the kernel would tell of processes that come and go.
struct Machine {
    chance: Chance,
    living: Vec<ProcSlot>,
    /// Those that still share their parent's pages.
    sharing: HashSet<u64>,
    next_id: u64,
    now_ns: u64,
    names: u64,
}

fn comm(name: u64) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    let text = format!("name-{name}");
    comm[..text.len()].copy_from_slice(text.as_bytes());
    comm
}

impl Machine {
    fn new(seed: u64, names: u64) -> Machine {
        let shell = ProcSlot { id: SHELL, tgid: 100, ..ProcSlot::default() };
        Machine {
            chance: Chance(seed),
            living: vec![shell],
            sharing: HashSet::new(),
            next_id: 2,
            now_ns: SECOND,
            names,
        }
    }

    fn of(&self, id: u64) -> [u64; KINDS] {
        self.living.iter().find(|slot| slot.id == id).map_or([0; KINDS], |slot| slot.counts)
    }

    /// What happens next.
    fn step(&mut self) -> Vec<Record> {
        self.now_ns += SECOND / 20;
        for slot in &mut self.living {
            let kind = self.chance.below(KINDS as u64) as usize;
            slot.counts[kind] += self.chance.below(9);
            slot.anon_pages += self.chance.below(5);
        }
        let place = self.chance.below(self.living.len() as u64) as usize;
        let slot = self.living[place];
        match self.chance.below(8) {
            0..3 => vec![self.fork(slot)],
            3 if self.sharing.remove(&slot.id) => {
                let name = self.chance.below(self.names);
                self.living[place].comm = comm(name);
                vec![Record::Exec(Box::new(Exec {
                    tag: tag::EXEC,
                    at_ns: self.now_ns,
                    id: slot.id,
                    parent_counts: self.of(slot.forked_from),
                    counts: slot.counts,
                    comm: comm(name),
                    args_len: 0,
                    args: [0; cowtrace_abi::ARGS_LEN],
                    parent_epoch: 0,
                }))]
            }
            _ if slot.id != SHELL => self.exit(place),
            _ => Vec::new(),
        }
    }

    fn fork(&mut self, parent: ProcSlot) -> Record {
        let id = self.next_id;
        self.next_id += 1;
        let child = ProcSlot {
            id,
            forked_from: parent.id,
            start_ns: self.now_ns,
            tgid: 100 + id as u32,
            ppid: parent.tgid,
            comm: parent.comm,
            ..ProcSlot::default()
        };
        self.living.push(child);
        self.sharing.insert(id);
        Record::Fork(Box::new(Fork {
            tag: tag::FORK,
            at_ns: self.now_ns,
            id,
            forked_from: parent.id,
            clone_flags: if self.chance.below(4) == 0 { CLONE_VM } else { 0 },
            clone_ns: 0,
            page_table_bytes: 4096,
            parent_counts: parent.counts,
            parent_epoch: 0,
            tgid: child.tgid,
            ppid: child.ppid,
            parent_tgid: parent.tgid,
            ns_tgid: 0,
            comm: child.comm,
        }))
    }

    fn exit(&mut self, place: usize) -> Vec<Record> {
        let slot = self.living.swap_remove(place);
        self.sharing.remove(&slot.id);
        let mut times = CowTimes { count: 1, total_ns: 700, max_ns: 700, ..CowTimes::ZERO };
        times.buckets[cowtrace_abi::time_bucket(700) as usize] = 1;
        let sums = TimeSums::from(&times);
        let times = TimesSoFar { at_ns: self.now_ns, id: slot.id, moment: moment::EXIT, sums };
        let process = ProcSlot { end_ns: self.now_ns, ..slot };
        let exit =
            Exit { tag: tag::EXIT, process, parent_counts: self.of(slot.forked_from), parent_epoch: 0 };
        vec![
            Record::Pages(PageBatch {
                id: slot.id,
                kind: Kind::Copy,
                window: 7,
                epoch: 0,
                bitmap: 0b11,
                faults: 2,
                span: 0,
                first_ns: self.now_ns,
                last_ns: self.now_ns,
                vma: Some((7 * 64 * 4096, 8 * 64 * 4096)),
                remote: false,
                unplaced: false,
            }),
            Record::Times(Box::new(times)),
            Record::Exit(Box::new(exit)),
        ]
    }
}

fn collector(most: Option<usize>) -> Collector {
    let mut collector = Collector::new(0, KnownKinds::all_but(&[Kind::Pinned]), false);
    let shell = ProcSlot { id: SHELL, tgid: 100, ..ProcSlot::default() };
    collector.insert(shell, Vec::new(), AddressSpace::new());
    collector.count_pages(100_000);
    if let Some(most) = most {
        collector.keep_ended(most);
    }
    collector
}

fn report(collector: &mut Collector, machine: &Machine) -> Report {
    let ending = Ending {
        complete: true,
        exit_status: None,
        end_ns: machine.now_ns,
        missed: 0,
        shared: Shared::default(),
        live: machine.living.clone(),
        stacks: None,
        times: Vec::new(),
        cpu_ns: 0,
    };
    let mut report = collector.report(&ending, Backend::Fentry);
    // Drawn are the heaviest of those that are kept.
    report.processes.iter_mut().filter_map(|p| p.pages.as_mut()).for_each(|p| p.strips = Default::default());
    report
}

/// The same events for one that keeps all, and for one that keeps few.
fn both(seed: u64, most: usize, names: u64, steps: usize) -> (Report, Report, Collector) {
    let mut machine = Machine::new(seed, names);
    let (mut all, mut few) = (collector(None), collector(Some(most)));
    for step in 0..steps {
        for record in machine.step() {
            all.push(record.clone());
            few.push(record);
        }
        all.digest(u64::MAX);
        few.digest(u64::MAX);
        if few.is_crowded() {
            few.fold(machine.now_ns, &HashSet::new());
        }
        assert!(!all.is_crowded());
        if step % 64 == 0 {
            check(&few, &machine);
        }
    }
    (report(&mut all, &machine), report(&mut few, &machine), few)
}

/// All places lead where they should, and who lives has all that he needs.
fn check(collector: &Collector, machine: &Machine) {
    for (index, process) in collector.processes.iter().enumerate() {
        assert_eq!(collector.processes.place(process.slot.id), Some(index));
    }
    for slot in &machine.living {
        assert!(collector.lives(slot.id));
        assert_eq!(collector.processes[collector.by_pid[&slot.tgid]].slot.tgid, slot.tgid);
    }
    for (child, &place) in &collector.open_forks {
        assert_eq!(collector.forks[place].child_id, *child);
        let parent = collector.processes.parent_id(*child).unwrap();
        assert!(collector.processes.of(parent).is_some(), "the parent of an open fork is gone");
    }
    let numbers = collector.numbers();
    assert_eq!(
        (numbers.processes.len(), numbers.forks.len()),
        (collector.processes.len(), collector.forks.len())
    );
    assert!(numbers.processes.is_sorted() && numbers.forks.is_sorted());
}

type Sums = (u64, Faults, [Option<u64>; 4], u64, u64, [u64; 3], [Option<u64>; 2]);

fn sums(report: &Report) -> Sums {
    let forks = |of: fn(&crate::model::Fork) -> bool, folded: fn(&FoldedForks) -> u64| {
        report.forks.iter().filter(|fork| of(fork)).count() as u64
            + report.folded.iter().map(|f| folded(&f.forks)).sum::<u64>()
    };
    let bytes = |of: fn(&crate::model::Fork) -> Option<u64>, folded: fn(&FoldedForks) -> Option<u64>| {
        report.forks.iter().map(of).chain(report.folded.iter().map(|f| folded(&f.forks))).sum()
    };
    let anon = report.processes.iter().map(|p| p.anon_bytes).sum::<u64>();
    let times = report.processes.iter().filter_map(|p| p.cow_ns).map(|t| t.total).sum::<u64>();
    (
        report.process_count(),
        report.faults(),
        [
            report.sum(|p| p.wpcopy, |f| f.wpcopy),
            report.sum(|p| p.raced, |f| f.raced),
            report.sum(|p| p.thp_splits, |f| f.thp_splits),
            report.copied_bytes(),
        ],
        anon + report.folded.iter().map(|f| f.anon_bytes).sum::<u64>(),
        times + report.folded.iter().filter_map(|f| f.cow_ns).map(|t| t.total).sum::<u64>(),
        [
            forks(|f| f.kind == ForkKind::Fork && f.ended_by == ForkEnd::Exec, |f| f.to_exec),
            forks(|f| f.kind == ForkKind::Fork && f.ended_by == ForkEnd::Exit, |f| f.to_exit),
            forks(|f| f.kind == ForkKind::Vfork, |f| f.vforks),
        ],
        [
            bytes(|f| f.parent_copied_bytes, |f| f.parent_copied_bytes),
            bytes(|f| f.child_copied_bytes, |f| f.child_copied_bytes),
        ],
    )
}

#[test]
fn sums_are_those_of_a_session_that_keeps_all() {
    for seed in 1..6 {
        let (all, few, _) = both(seed, 20, 7, 3000);
        assert!(all.folded.is_empty() && few.folded_processes() > 500, "{}", few.folded_processes());
        assert_eq!(sums(&few), sums(&all), "seed {seed}");
        assert!(sums(&all).1.copy.unwrap() > 1000 && sums(&all).5.iter().all(|forks| *forks > 10));
        assert_eq!(few.lost, all.lost);
        // Those that are kept are as they were, but for forks that are only remembered by their times.
        for process in &few.processes {
            let same = all.processes.iter().find(|p| p.start_ns == process.start_ns).unwrap();
            assert_eq!(process, same);
        }
        for fork in &few.forks {
            let same = all.forks.iter().find(|f| f.child == fork.child).unwrap();
            assert_eq!(fork, same);
        }
    }
}

#[test]
fn few_are_kept_and_these_copied_most() {
    let (all, few, collector) = both(9, 20, 7, 3000);
    let living = few.processes.iter().filter(|process| process.end_ns.is_none()).count();
    let ended = few.processes.len() - living;
    // Ten more ended in the last half second.
    assert!((20..=50).contains(&ended), "{ended} of {}", all.processes.len());
    assert!(collector.forks.len() <= few.processes.len() && collector.settled.processes.len() <= ended);
    let own = |process: &crate::model::Process| process.wpcopy.unwrap();
    let mut copies: Vec<u64> = all.processes.iter().filter(|p| p.end_ns.is_some()).map(own).collect();
    copies.sort_unstable_by_key(|&copies| Reverse(copies));
    let heaviest = few.processes.iter().map(own).max().unwrap();
    assert!(heaviest >= copies[0], "{heaviest} of {:?}", &copies[..3]);
}

#[test]
fn names_are_bounded_and_nothing_is_lost() {
    let mut fold = Fold::default();
    for name in 0..5_000 {
        fold.of_name(comm(name)).processes += 1;
        fold.of_name(comm(name)).counts.add(Kind::Copy, name);
    }
    let mut collector = collector(Some(1));
    collector.fold = fold;
    let folded = collector.folded();
    assert_eq!(folded.len(), MOST_NAMES + 1);
    assert_eq!((folded[0].comm.as_str(), folded[0].processes), (OTHER_NAMES, 4_000));
    assert_eq!(folded[1].comm, "name-999", "by descending copies");
    assert_eq!(folded.iter().map(|folded| folded.faults.copy.unwrap()).sum::<u64>(), (0..5_000).sum::<u64>());
}

/// A session whose processes have all ended: 100 children of the shell.
fn ended() -> (Collector, Machine) {
    let mut machine = Machine::new(1, 3);
    let mut collector = collector(Some(10));
    for _ in 0..100 {
        let parent = machine.living[0];
        collector.push(machine.fork(parent));
        machine.exit(1).into_iter().for_each(|record| collector.push(record));
        machine.now_ns += SECOND;
    }
    collector.digest(u64::MAX);
    (collector, machine)
}

#[test]
fn what_is_recorded_is_written_first() {
    let (mut collector, machine) = ended();
    // Handed over, and not written.
    assert_eq!(collector.interim(true).numbers.processes.len(), 101);
    collector.fold(machine.now_ns, &HashSet::new());
    assert_eq!(collector.processes.len(), 101);
    assert_eq!(collector.interim(true).numbers.processes.len(), 101, "once more, as it may not be there");
    collector.fold(machine.now_ns, &HashSet::new());
    assert_eq!(collector.processes.len(), 101);
    // The next call tells that it is there.
    let living = collector.interim(false);
    assert_eq!((living.numbers.processes, living.numbers.forks.len()), (vec![0], 0));
    collector.fold(machine.now_ns, &HashSet::new());
    assert_eq!((collector.processes.len(), collector.forks.len()), (11, 10));
    assert_eq!(
        collector.interim(true).numbers.processes,
        collector.numbers().processes,
        "none has another number"
    );
}

#[test]
fn the_parent_s_id_and_the_code_of_stacks_stay() {
    let (mut collector, machine) = ended();
    collector.fold(machine.now_ns, &HashSet::from([2, 3, 500]));
    assert_eq!(collector.processes.len(), 11);
    assert_eq!(collector.process_of(3).map(|process| process.slot.tgid), Some(103));
    assert!(collector.process_of(4).is_none(), "it has no stacks");
    assert_eq!(collector.fold.with_stacks.len(), 2);
}

#[test]
fn half_a_second_passes_before_anything_is_folded() {
    let (mut collector, _) = ended();
    collector.fold(SECOND + KEPT_NS, &HashSet::new());
    assert_eq!(collector.fold.ended, 99, "the first ended after a second");
}
