//! The report, from what was gathered.

use cowtrace_abi::{COMM_LEN, Kind, ProcSlot, Shared};

use super::{Collector, ProcessState};
use crate::collect::stacks::Copies;
use crate::{
    kernel::{hugetlb_size, running_kernel},
    model::{
        BackendFacts, Counts, Fork, Lost, PageCounts, Process, REPORT_SCHEMA, Region, RegionCounts,
        RegionFaults, Report, TimeSums, TracerCost,
    },
    probe::Backend,
};

/// What is asked of the kernel side when a report is made.
pub(in crate::collect) struct Ending {
    /// Whether the session is over.
    pub(in crate::collect) complete: bool,
    /// Exit status of the command, if it has exited.
    pub(in crate::collect) exit_status: Option<i32>,
    /// Monotonic time, ns.
    pub(in crate::collect) end_ns: u64,
    /// Program runs that the kernel skipped.
    pub(in crate::collect) missed: u64,
    /// State of the kernel programs.
    pub(in crate::collect) shared: Shared,
    /// Slots of processes whose end was not reported.
    pub(in crate::collect) live: Vec<ProcSlot>,
    /// Copies by user stack, if that was asked for.
    pub(in crate::collect) stacks: Option<Vec<Copies>>,
    /// Times of the copies of these processes, if that was asked for.
    pub(in crate::collect) times: Vec<(u64, TimeSums)>,
    /// CPU time of this process, ns.
    pub(in crate::collect) cpu_ns: u64,
}

impl Collector {
    /// Makes the report; to be called once, at the end, or on a copy.
    pub(in crate::collect) fn report(&mut self, ending: &Ending, backend: Backend) -> Report {
        for slot in &ending.live {
            self.take_slot(slot);
        }
        for (id, times) in &ending.times {
            self.set_times(*id, times.clone());
        }
        let mut processes: Vec<Process> =
            self.processes.iter().map(|p| self.process(p, &p.regions, usize::MAX)).collect();
        self.add_pages(&mut processes);
        let forks = self.forks.iter().map(|f| self.fork_bill(f)).collect();
        let mut report = self.assemble(ending, backend, processes, forks);
        if let Some(copies) = &ending.stacks {
            let places: Vec<usize> = (0..self.forks.len()).collect();
            self.add_stacks(&mut report, copies, &places);
        }
        report
    }

    /// The report with these processes and forks, without stacks.
    pub(super) fn assemble(
        &self,
        ending: &Ending,
        backend: Backend,
        processes: Vec<Process>,
        forks: Vec<Fork>,
    ) -> Report {
        Report {
            schema: REPORT_SCHEMA,
            kernel: running_kernel(),
            backend: BackendFacts {
                name: backend.name().to_owned(),
                blind_to: backend.blind_to().iter().map(|&b| b.to_owned()).collect(),
                unknown: backend.unknown_reasons(&self.known),
            },
            lost: Lost {
                events: ending.shared.lost_events + ending.shared.lost_faults + ending.missed + self.damaged,
                processes: ending.shared.lost_tasks,
                regions: ending.shared.lost_regions + self.unresolved + self.lost_mappings,
                stacks: ending.shared.lost_stacks,
                pages: self.pages.as_ref().map_or(0, PageCounts::lost),
            },
            duration_ns: ending.end_ns.saturating_sub(self.start_ns),
            command: self.command.clone(),
            exit_status: ending.exit_status,
            complete: ending.complete,
            processes,
            forks,
            folded: self.folded(),
            stacks: None,
            tracer: TracerCost { cpu_ns: ending.cpu_ns, max_rss_kb: max_rss_kb() },
        }
    }

    /// Takes the counts of a process that lives, or whose exit found no room in the ring.
    fn take_slot(&mut self, slot: &ProcSlot) {
        if let Some(process) = self.processes.of_mut(slot.id) {
            process.slot = *slot;
        } else {
            self.insert(*slot, Vec::new(), Default::default());
        }
    }

    /// Faults of a process, with the last of each of its threads, if that is known.
    pub(super) fn counts(&self, process: &ProcessState) -> Counts {
        let mut counts = Counts(process.slot.counts);
        if let Some(more) = self.held_back.get(&process.slot.id) {
            counts.merge(more);
        }
        counts
    }

    /// What is known of counts beyond the kinds.
    pub(super) fn figures(&self, counts: &Counts) -> Figures {
        let (known, sizes) = (&self.known, self.sizes);
        Figures {
            wpcopy: known.has_wpcopy().then(|| counts.wpcopy()),
            raced: known.has(Kind::Raced).then(|| counts.of(Kind::Raced)),
            thp_splits: known.has(Kind::HugeSplit).then(|| counts.of(Kind::HugeSplit)),
            copied_bytes: known.has(Kind::Copy).then(|| counts.copied_bytes(sizes.page, sizes.hugetlb)),
        }
    }

    /// A process, with at most so many of the regions for which these are the counts.
    pub(super) fn process(&self, process: &ProcessState, regions: &RegionCounts, most: usize) -> Process {
        let slot = &process.slot;
        let counts = self.counts(process);
        let parent_pid = self.processes.of(slot.forked_from).map(|parent| parent.slot.tgid);
        let known = regions.iter().filter_map(|(id, counts)| Some((counts, process.space.region(id)?)));
        let mut regions: Vec<(&Counts, &Region)> = known.collect();
        regions.sort_by_key(|(counts, region)| (std::cmp::Reverse(counts.wpcopy()), region.start));
        let regions = regions.into_iter().take(most).map(|(counts, region)| RegionFaults {
            start: region.start,
            end: region.end,
            perms: region.perms.to_string(),
            name: region.name.to_string(),
            faults: counts.to_faults(&self.known),
        });
        let figures = self.figures(&counts);
        Process {
            pid: slot.tgid,
            ns_pid: process.ns_pid,
            ppid: slot.ppid,
            comm: text(&process.comm),
            cmdline: process.cmdline.clone(),
            forked_from: parent_pid.or(process.parent_pid),
            start_ns: slot.start_ns.saturating_sub(self.start_ns),
            end_ns: (slot.end_ns != 0).then(|| slot.end_ns.saturating_sub(self.start_ns)),
            faults: counts.to_faults(&self.known),
            wpcopy: figures.wpcopy,
            raced: figures.raced,
            thp_splits: figures.thp_splits,
            copied_bytes: figures.copied_bytes,
            anon_bytes: slot.anon_pages * self.sizes.page,
            cow_ns: process.times.as_ref().map(TimeSums::summary),
            regions: regions.collect(),
            pages: None,
        }
    }
}

/// Figures of the report that are not counts of one kind; `None` if they are not known.
pub(super) struct Figures {
    pub(super) wpcopy: Option<u64>,
    pub(super) raced: Option<u64>,
    pub(super) thp_splits: Option<u64>,
    pub(super) copied_bytes: Option<u64>,
}

/// Sizes of pages, bytes.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) page: u64,
    hugetlb: u64,
}

impl Sizes {
    /// Those of this kernel.
    pub(super) fn here() -> Sizes {
        Sizes { page: crate::kernel::page_size(), hugetlb: hugetlb_size() }
    }

    /// Bytes of a page that a fork shares, if copies of this kind are of such pages.
    pub(super) fn of_shared(self, kind: Kind) -> Option<u64> {
        match kind {
            Kind::Copy => Some(self.page),
            Kind::Hugetlb => Some(self.hugetlb),
            _ => None,
        }
    }

    /// Bytes of what a fork shares that were copied.
    pub(super) fn shared(self, counts: &Counts) -> u64 {
        let bytes = |kind: Kind| Some(counts.of(kind) * self.of_shared(kind)?);
        Kind::ALL.into_iter().filter_map(bytes).sum()
    }
}

/// A command name.
pub(super) fn text(comm: &[u8; COMM_LEN]) -> String {
    let end = comm.iter().position(|&byte| byte == 0).unwrap_or(COMM_LEN);
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

fn max_rss_kb() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_SELF).map(|usage| usage.max_rss().unsigned_abs()).unwrap_or_default()
}
