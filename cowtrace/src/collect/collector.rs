//! From records to processes, forks and regions.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
};

use cowtrace_abi::{ARGS_LEN, CLONE_VM, Exec, Exit, Fork as ForkRecord, ProcSlot};

use super::record::Record;
use crate::model::{
    AddressSpace, CodeMap, Counts, FamilyEvent, ForkEnd, ForkKind, KnownKinds, MapEvent, MapEventKind,
    Mapping, PageBatch, PageCounts, PastForks, RegionCounts, RegionId, TimeSums,
};

mod epochs;
mod events;
mod fold;
mod foresight;
mod forget;
mod fork_stacks;
mod forks;
mod glance;
mod held_back;
mod interim;
mod latency;
mod page_log;
mod pages;
mod processes;
mod report;
mod stacks;

use events::Events;
use fold::Fold;
use foresight::{Foreseen, Foresight};
use forks::{ForkState, OwnForks};
pub(super) use glance::Wanted;
pub(super) use interim::Interim;
use interim::Settled;
use latency::ForkTimes;
use page_log::PageLog;
use processes::Processes;
pub(super) use report::Ending;
use report::Sizes;

/// One process, from its creation to its end.
#[derive(Clone)]
pub(super) struct ProcessState {
    /// Session-wide: it never changes, and later processes have larger ones.
    number: u64,
    slot: ProcSlot,
    comm: [u8; cowtrace_abi::COMM_LEN],
    cmdline: Vec<String>,
    space: AddressSpace,
    code: CodeMap,
    regions: RegionCounts,
    ns_pid: Option<u32>,
    /// Process id of the one that forked it, which may be gone before it.
    parent_pid: Option<u32>,
    forks: OwnForks,
    /// Forks that it made and that are folded, where pages are counted.
    past_forks: PastForks,
    times: Option<TimeSums>,
}

/// Gathers a session.
pub(super) struct Collector {
    start_ns: u64,
    command: Vec<String>,
    processes: Processes,
    next_number: u64,
    /// Index in `processes` of the living process with a PID.
    by_pid: HashMap<u32, usize>,
    forks: Vec<ForkState>,
    /// Index in `forks` of the fork that made a process, while it shares pages.
    open_forks: HashMap<u64, usize>,
    /// Identities of parents of many forks that have ended.
    crowded: HashSet<u64>,
    /// When a fork in flight is to be looked at, monotonic ns.
    next_look_ns: u64,
    records: VecDeque<Record>,
    mappings: VecDeque<MapEvent>,
    /// Indices of processes that ended since the last digest.
    ended: Vec<usize>,
    /// Indices of processes and forks that ended since the last [`Collector::interim`].
    settled: Settled,
    lost_mappings: u64,
    unresolved: u64,
    damaged: u64,
    known: KnownKinds,
    sizes: Sizes,
    page_log: Option<PageLog>,
    /// Where code is mapped is kept, for stacks.
    code_kept: bool,
    pages: Option<PageCounts>,
    /// Faults one by one, if they are asked for.
    events: Option<Events>,
    held_back: HashMap<u64, Counts>,
    /// Forecasts, if they are asked for.
    foresight: Option<Foresight>,
    /// Regions of the batch that is being attributed, and faults in each.
    hits: Vec<(RegionId, u64)>,
    /// What the last glance has handed over.
    doomed: forget::Doomed,
    /// Ended processes that are not kept one by one.
    fold: Fold,
}

impl Collector {
    /// Starts without processes.
    pub(super) fn new(start_ns: u64, known: KnownKinds, page_log: bool) -> Collector {
        Collector {
            start_ns,
            command: Vec::new(),
            processes: Processes::default(),
            next_number: 0,
            by_pid: HashMap::new(),
            forks: Vec::new(),
            open_forks: HashMap::new(),
            crowded: HashSet::new(),
            next_look_ns: u64::MAX,
            records: VecDeque::new(),
            mappings: VecDeque::new(),
            ended: Vec::new(),
            settled: Settled::default(),
            lost_mappings: 0,
            unresolved: 0,
            damaged: 0,
            known,
            sizes: Sizes::here(),
            page_log: page_log.then(PageLog::default),
            code_kept: false,
            pages: None,
            events: None,
            held_back: HashMap::new(),
            foresight: None,
            hits: Vec::new(),
            doomed: forget::Doomed::default(),
            fold: Fold::default(),
        }
    }

    /// Names the command in the report.
    pub(super) fn set_command(&mut self, command: &[OsString]) {
        self.command = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    }

    /// Keeps where code is mapped, for [`Ending::stacks`].
    pub(super) fn keep_code(&mut self) {
        self.code_kept = true;
    }

    /// Takes the mappings that a process had when it became known.
    pub(super) fn see_code(&mut self, id: u64, at_ns: u64, mappings: Vec<Mapping>) {
        let Some(process) = self.processes.of_mut(id).filter(|_| self.code_kept) else { return };
        for mapping in mappings {
            process.code.apply(at_ns, &MapEventKind::Map(mapping));
        }
    }

    /// Takes a record; it waits for [`Collector::digest`].
    pub(super) fn push(&mut self, record: Record) {
        self.records.push_back(record);
    }

    /// Counts a record that could not be read.
    pub(super) fn count_damaged(&mut self) {
        self.damaged += 1;
    }

    /// Takes records of mappings, of all processes of the machine, in the order of time (as the follower gives them).
    pub(super) fn push_mappings(&mut self, events: impl Iterator<Item = MapEvent>, lost: u64) {
        self.lost_mappings += lost;
        self.mappings.extend(events);
    }

    /// Applies all that happened up to a time. What a process's life and its mappings tell is applied in the order of
    /// time; faults follow, as the address spaces keep their history.
    pub(super) fn digest(&mut self, until_ns: u64) {
        let mut faults: Vec<(PageBatch, bool)> = Vec::new();
        let mut events = Vec::new();
        while let Some(record) = self.records.front() {
            if record.at_ns() > until_ns {
                break;
            }
            let Some(record) = self.records.pop_front() else { break };
            match record {
                Record::Pages(pages) => {
                    self.log_pages(&pages);
                    // All that was gathered before the end is sent before it is told.
                    let is_sharing = self.open_forks.contains_key(&pages.id);
                    faults.push((pages, is_sharing));
                }
                Record::Fault(fault) => events.push(fault),
                life => {
                    self.apply_mappings(life.at_ns());
                    self.live_on(life);
                }
            }
        }
        // Mappings of a process whose fork waits must wait with it.
        let is_fault = |record: &Record| matches!(record, Record::Pages(_) | Record::Fault(_));
        let life = |record: &Record| (!is_fault(record)).then(|| record.at_ns());
        let horizon_ns = self.records.iter().find_map(life).unwrap_or(until_ns).min(until_ns);
        self.apply_mappings(horizon_ns);
        for (pages, is_sharing) in &faults {
            self.attribute(pages, *is_sharing);
        }
        self.resolve(events);
        self.forget_ended();
        self.forget_ended_forks();
    }

    fn live_on(&mut self, record: Record) {
        match record {
            Record::Fork(fork) => self.fork(&fork),
            Record::Renamed(renamed) => {
                if let Some(log) = &mut self.page_log {
                    log.renamed(renamed.id);
                }
            }
            Record::Exec(exec) => self.exec(&exec),
            Record::Exit(exit) => self.exit(&exit),
            Record::Times(times) => self.take_times(*times),
            Record::Pages(_) | Record::Fault(_) => {}
        }
    }

    fn apply_mappings(&mut self, until_ns: u64) {
        while self.mappings.front().is_some_and(|event| event.at_ns <= until_ns) {
            let Some(event) = self.mappings.pop_front() else { break };
            let Some(&index) = self.by_pid.get(&event.pid) else { continue };
            let process = &mut self.processes[index];
            if self.code_kept {
                process.code.apply(event.at_ns, &event.kind);
            }
            process.space.apply_event(event.at_ns, event.kind);
        }
    }

    /// Makes a process known.
    pub(super) fn insert(&mut self, slot: ProcSlot, cmdline: Vec<String>, space: AddressSpace) {
        let parent = self.processes.of(slot.forked_from);
        let parent_pid = parent.map(|parent| parent.slot.tgid);
        let mut code = parent.map(|parent| parent.code.fork()).unwrap_or_default();
        code.set_comm(&report::text(&slot.comm));
        let index = self.processes.push(ProcessState {
            number: self.next_number,
            slot,
            comm: slot.comm,
            cmdline,
            space,
            code,
            regions: RegionCounts::default(),
            ns_pid: None,
            parent_pid,
            forks: OwnForks::default(),
            past_forks: PastForks::default(),
            times: None,
        });
        self.by_pid.insert(slot.tgid, index);
        self.next_number += 1;
    }

    /// Tells how a process is called in its own PID namespace, if that is another than ours.
    pub(super) fn set_ns_pid(&mut self, id: u64, ns_pid: Option<u32>) {
        if let Some(process) = self.processes.of_mut(id) {
            process.ns_pid = ns_pid;
        }
    }

    fn fork(&mut self, record: &ForkRecord) {
        let parent = self.processes.of(record.forked_from);
        let (cmdline, space) =
            parent.map(|p| (p.cmdline.clone(), p.space.fork(record.at_ns))).unwrap_or_default();
        let slot = ProcSlot {
            id: record.id,
            forked_from: record.forked_from,
            start_ns: record.at_ns,
            tgid: record.tgid,
            ppid: record.ppid,
            comm: record.comm,
            ..ProcSlot::default()
        };
        self.insert(slot, cmdline, space);
        self.set_ns_pid(record.id, Some(record.ns_tgid).filter(|&id| id != 0 && id != record.tgid));
        // With CLONE_VM (vfork, posix_spawn) both use the same page tables until the child execs.
        let vfork = record.clone_flags & CLONE_VM != 0;
        if let Some(log) = &mut self.page_log {
            log.fork(record.parent_tgid, record.tgid, vfork);
        }
        self.begin_fork(record, if vfork { ForkKind::Vfork } else { ForkKind::Fork });
    }

    fn exec(&mut self, record: &Exec) {
        let Some(process) = self.processes.of_mut(record.id) else { return };
        process.comm = record.comm;
        process.cmdline = arguments(record);
        process.code.set_comm(&report::text(&record.comm));
        let pid = process.slot.tgid;
        if let Some(log) = &mut self.page_log {
            log.exec(record.id, pid);
        }
        let counts = (Counts(record.parent_counts), Counts(record.counts));
        self.end_fork(record.id, record.at_ns, ForkEnd::Exec, record.parent_epoch, counts);
    }

    fn exit(&mut self, record: &Exit) {
        let slot = record.process;
        if self.processes.place(slot.id).is_none() {
            // Its fork's record was lost; this one tells as much.
            self.insert(slot, Vec::new(), AddressSpace::new());
        }
        let Some(index) = self.processes.place(slot.id) else { return };
        let process = &mut self.processes[index];
        process.slot = slot;
        process.comm = slot.comm;
        self.ended.push(index);
        self.fold.ended += 1;
        self.settled.processes.push(index);
        // The PID may already be another's.
        if self.by_pid.get(&slot.tgid) == Some(&index) {
            self.by_pid.remove(&slot.tgid);
        }
        if let Some(log) = &mut self.page_log {
            log.exit(slot.id, slot.tgid);
        }
        let counts = (Counts(record.parent_counts), Counts(slot.counts));
        self.end_fork(slot.id, slot.end_ns, ForkEnd::Exit, record.parent_epoch, counts);
    }

    fn log_pages(&mut self, batch: &PageBatch) {
        if let (Some(log), Some(process)) = (&mut self.page_log, self.processes.of(batch.id)) {
            log.pages(process.slot.tgid, batch);
        }
    }

    /// `is_sharing`: the process still had the memory that it was forked with.
    fn attribute(&mut self, batch: &PageBatch, is_sharing: bool) {
        if let Some(pages) = &mut self.pages {
            pages.count(batch);
        }
        let Some(index) = self.processes.place(batch.id) else {
            self.unresolved += batch.faults;
            return;
        };
        let process = &mut self.processes[index];
        let page_size = self.sizes.page;
        self.unresolved += process.regions.attribute(&mut process.space, batch, page_size, &mut self.hits);
        self.bill_regions(index, batch, is_sharing);
    }

    /// Address spaces of processes that are gone keep nothing but the regions that were hit.
    fn forget_ended(&mut self) {
        for index in self.ended.drain(..) {
            self.processes[index].space.compact();
        }
    }

    /// Keeps page events no longer.
    pub(super) fn end_page_log(&mut self) {
        self.page_log = None;
    }

    /// Page events since the last call.
    pub(super) fn take_family_events(&mut self) -> Vec<FamilyEvent> {
        self.page_log.as_mut().map(PageLog::take).unwrap_or_default()
    }
}

fn arguments(record: &Exec) -> Vec<String> {
    let kept = usize::try_from(record.args_len).unwrap_or(usize::MAX).min(ARGS_LEN);
    let bytes = record.args.get(..kept).unwrap_or_default();
    let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if text.is_empty() {
        return Vec::new();
    }
    let mut words: Vec<String> = text
        .split(|&byte| byte == 0)
        .map(|word| std::ffi::OsStr::from_bytes(word).to_string_lossy().into_owned())
        .collect();
    if record.args_len > ARGS_LEN as u64 {
        words.push("…".to_owned());
    }
    words
}
