//! What each fork has cost, from its begin to the end of the sharing.

use std::collections::{BTreeMap, HashMap, VecDeque};

use cowtrace_abi::{Fork as ForkRecord, Kind, ProcSlot};

use super::{
    Collector, Foreseen, ForkTimes,
    epochs::{self, Epochs},
};
use crate::model::{
    Counts, Fork, ForkEnd, ForkKind, ForkMoment, ForkRegion, ForkSeries, PageBatch, RegionId,
};

/// A fork in flight is looked at each time that it has become older by this part of its age: one in so many.
const AGE_PARTS: u64 = 32;
/// Bounds of the time between two looks, ns.
const SOONEST_NS: u64 = 50_000_000;
const LATEST_NS: u64 = 1_000_000_000;
/// With more forks in flight than this, each is looked at no more often than that.
const MANY: usize = 64;
/// Forks of one process that have ended, and whose last pages may still come in.
const ENDED_KEPT: usize = 16;

/// A fork and the counts of both sides at its begin and end.
#[derive(Clone)]
pub(super) struct ForkState {
    fork: Fork,
    pub(super) child_id: u64,
    begin_ns: u64,
    end_ns: Option<u64>,
    parent_at_fork: Counts,
    parent_at_end: Option<Counts>,
    child_at_end: Option<Counts>,
    series: ForkSeries,
    /// When the next moment of the series is due.
    due_ns: u64,
    /// Bytes copied in each region of the parent and of the child.
    regions: BTreeMap<(Side, RegionId), u64>,
    /// The parent's, once it is gone.
    of_parent: Vec<ForkRegion>,
    /// When the parent's copies were because of it.
    pub(super) epochs: Epochs,
    pub(super) foreseen: Foreseen,
    pub(super) times: ForkTimes,
}

/// Who copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Parent,
    Child,
}

/// The forks that a process has to do with, as places in [`Collector::forks`].
#[derive(Clone, Default)]
pub(super) struct OwnForks {
    /// The one that made it.
    made_by: Option<usize>,
    /// Those that it made: the ones in flight, and a few that have ended.
    made: VecDeque<usize>,
    /// How long the last of them lasted that lasted long, ns.
    lasted_ns: Option<u64>,
    /// The latest epoch that was told.
    epoch: u64,
}

impl OwnForks {
    /// The same with the places that they have elsewhere; without those that are not there.
    pub(super) fn moved(&self, places: &HashMap<usize, usize>) -> OwnForks {
        OwnForks {
            made_by: self.made_by.and_then(|place| places.get(&place).copied()),
            made: self.made.iter().filter_map(|place| places.get(place).copied()).collect(),
            lasted_ns: self.lasted_ns,
            epoch: self.epoch,
        }
    }
}

impl Collector {
    /// Takes over that forks have other places, or none any more.
    pub(super) fn move_forks(&mut self, places: &HashMap<usize, usize>) {
        for process in self.processes.iter_mut() {
            process.forks = process.forks.moved(places);
        }
    }
}

impl ForkState {
    /// Whether the child got a memory of its own, which shares pages with the parent's.
    pub(super) fn copies_the_memory(&self) -> bool {
        self.fork.kind == ForkKind::Fork
    }

    /// Shared pages that the parent copied until the end.
    pub(super) fn pages_of_parent(&self) -> u64 {
        let since = self.parent_at_end.map(|at_end| at_end.since(&self.parent_at_fork)).unwrap_or_default();
        since.of(Kind::Copy) + since.of(Kind::Hugetlb)
    }

    /// Whether both still share pages.
    pub(super) fn is_open(&self) -> bool {
        self.end_ns.is_none()
    }

    /// Process ids of the parent and of the child, and when that was, ns since the start of the session.
    pub(super) fn who(&self) -> (u32, u32, u64) {
        (self.fork.parent, self.fork.child, self.fork.at_ns)
    }

    /// When it began, monotonic ns, and what was copied since.
    pub(super) fn so_far(&self) -> (u64, &[ForkMoment]) {
        (self.begin_ns, self.series.moments())
    }
}

impl Collector {
    /// A process was created by another.
    pub(super) fn begin_fork(&mut self, record: &ForkRecord, kind: ForkKind) {
        let place = self.forks.len();
        let first_look_ns = record.at_ns + self.soonest_ns();
        self.open_forks.insert(record.id, place);
        let fork = Fork {
            parent: record.parent_tgid,
            child: record.tgid,
            at_ns: record.at_ns.saturating_sub(self.start_ns),
            kind,
            fork_ns: (record.clone_ns != 0).then(|| record.at_ns.saturating_sub(record.clone_ns)),
            page_table_kb: (kind == ForkKind::Fork).then_some(record.page_table_bytes / 1024),
            ended_by: ForkEnd::Running,
            lifetime_ns: None,
            parent_copied_bytes: None,
            child_copied_bytes: None,
            extra_peak_bytes: None,
            extra_now_bytes: None,
            parent_cow_ns: None,
            child_cow_ns: None,
            regions: Vec::new(),
            stacks: None,
            forecasts: Vec::new(),
            series: Vec::new(),
        };
        self.forks.push(ForkState {
            fork,
            child_id: record.id,
            begin_ns: record.at_ns,
            end_ns: None,
            parent_at_fork: Counts(record.parent_counts),
            parent_at_end: None,
            child_at_end: None,
            series: ForkSeries::default(),
            due_ns: first_look_ns,
            regions: BTreeMap::new(),
            of_parent: Vec::new(),
            epochs: Epochs::since(record.parent_epoch),
            foreseen: Foreseen::default(),
            times: ForkTimes::default(),
        });
        self.foresee_fork(place, kind);
        self.next_look_ns = self.next_look_ns.min(first_look_ns);
        if kind == ForkKind::Vfork {
            return;
        }
        if let Some(child) = self.processes.of_mut(record.id) {
            child.forks.made_by = Some(place);
        }
        if let Some(parent) = self.processes.of_mut(record.forked_from) {
            parent.forks.made.push_back(place);
            parent.forks.epoch = epochs::number(record.parent_epoch);
        }
    }

    /// The sharing has ended.
    pub(super) fn end_fork(
        &mut self,
        child_id: u64,
        at_ns: u64,
        by: ForkEnd,
        parent_epoch: u64,
        (parent, child): (Counts, Counts),
    ) {
        let Some(place) = self.open_forks.remove(&child_id) else { return };
        // One that has exited has no slot whose counts could have been told now.
        let forked_from = self.processes.parent(child_id).map(|parent| parent.slot);
        let parent = forked_from.filter(|slot| slot.end_ns != 0).map_or(parent, |slot| Counts(slot.counts));
        let Some(state) = self.forks.get_mut(place) else { return };
        state.epochs.end(parent_epoch);
        self.settled.forks.push(place);
        state.end_ns = Some(at_ns);
        state.fork.ended_by = by;
        state.fork.lifetime_ns = Some(at_ns.saturating_sub(self.start_ns).saturating_sub(state.fork.at_ns));
        state.parent_at_end = Some(parent);
        state.child_at_end = Some(child);
        let lasted_ns = at_ns.saturating_sub(state.begin_ns);
        let is_long = lasted_ns >= LATEST_NS;
        if !is_long {
            state.series = ForkSeries::default();
        }
        let Some(parent) = forked_from.and_then(|slot| self.processes.of_mut(slot.id)) else { return };
        let OwnForks { made, lasted_ns: before, epoch, .. } = &mut parent.forks;
        *epoch = epochs::number(parent_epoch).max(*epoch);
        if is_long && by == ForkEnd::Exit {
            *before = Some(lasted_ns);
        }
        if made.len() > ENDED_KEPT {
            self.crowded.insert(parent.slot.id);
        }
    }

    /// Keeps few of the forks that have ended with their parents, once all faults that were told with their ends are billed.
    pub(super) fn forget_ended_forks(&mut self) {
        for id in self.crowded.drain() {
            let Some(parent) = self.processes.of_mut(id) else { continue };
            let made = &mut parent.forks.made;
            let mut ended = made.iter().filter(|&&place| self.forks[place].end_ns.is_some()).count();
            made.retain(|&place| {
                let goes = ended > ENDED_KEPT && self.forks[place].end_ns.is_some();
                ended -= usize::from(goes);
                !goes
            });
        }
    }

    /// Adds the regions of a batch to the forks that made these copies necessary. `is_sharing`: what the process was forked
    /// with was still shared.
    pub(super) fn bill_regions(&mut self, process: usize, batch: &PageBatch, is_sharing: bool) {
        let Some(page_bytes) = self.sizes.of_shared(batch.kind) else { return };
        let own = &self.processes[process].forks;
        let of_child = own.made_by.filter(|_| is_sharing).map(|place| (place, Side::Child));
        let epoch = epochs::number_of_window(own.epoch, batch.epoch);
        let covers = |place: &usize| self.forks.get(*place).is_some_and(|fork| fork.epochs.covers(epoch));
        let of_parent = own.made.iter().copied().filter(covers).map(|place| (place, Side::Parent));
        let forks: Vec<(usize, Side)> = of_child.into_iter().chain(of_parent).collect();
        for (place, side) in forks {
            let Some(state) = self.forks.get_mut(place) else { continue };
            for &(region, faults) in &self.hits {
                *state.regions.entry((side, region)).or_default() += faults * page_bytes;
            }
        }
    }

    /// How long the last fork of the same parent lasted, ns.
    pub(super) fn lifetime_before(&self, place: usize) -> Option<u64> {
        self.processes.parent(self.forks.get(place)?.child_id)?.forks.lasted_ns
    }

    /// Whether a fork is in flight whose copies are to be looked at.
    pub(in crate::collect) fn forks_are_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_look_ns && !self.open_forks.is_empty()
    }

    /// How soon a fork is looked at again, or for the first time, ns.
    fn soonest_ns(&self) -> u64 {
        if self.open_forks.len() > MANY { LATEST_NS } else { SOONEST_NS }
    }

    /// Notes what the forks in flight have cost by now. `live`: the slots of all processes that live.
    pub(in crate::collect) fn note_forks(&mut self, now_ns: u64, live: &[ProcSlot]) {
        let soonest = self.soonest_ns();
        self.next_look_ns = now_ns + LATEST_NS;
        if !self.known.has(Kind::Copy) {
            return;
        }
        let sizes = self.sizes;
        let counts: HashMap<u64, Counts> = live.iter().map(|slot| (slot.id, Counts(slot.counts))).collect();
        let at_ns = now_ns.saturating_sub(self.start_ns);
        let open: Vec<usize> = self.open_forks.values().copied().collect();
        for &index in &open {
            let state = &mut self.forks[index];
            if now_ns >= state.due_ns {
                let age_ns = now_ns.saturating_sub(state.begin_ns);
                state.due_ns = now_ns + (age_ns / AGE_PARTS).clamp(soonest, LATEST_NS);
                let parent = self.processes.parent_id(state.child_id);
                let (Some(of_child), Some(of_parent)) =
                    (counts.get(&state.child_id), parent.and_then(|id| counts.get(&id)))
                else {
                    continue;
                };
                if state.series.moments().is_empty() {
                    state.series.push(ForkMoment { at_ns: state.fork.at_ns, ..ForkMoment::default() });
                }
                state.series.push(ForkMoment {
                    at_ns,
                    parent_copied_bytes: sizes.shared(&of_parent.since(&state.parent_at_fork)),
                    child_copied_bytes: sizes.shared(of_child),
                });
            }
            self.next_look_ns = self.next_look_ns.min(state.due_ns);
        }
        for place in open {
            self.foresee_more(place, now_ns);
        }
    }

    /// A fork as the report has it.
    pub(super) fn fork_bill(&self, state: &ForkState) -> Fork {
        let mut fork = self.fork_sums(state);
        if self.known.has(Kind::Copy) {
            fork.regions = self.fork_regions(state, self.processes.parent_id(state.child_id));
        }
        fork
    }

    /// The same without regions.
    pub(super) fn fork_sums(&self, state: &ForkState) -> Fork {
        let (child, parent) = (self.processes.of(state.child_id), self.processes.parent(state.child_id));
        let parent =
            state.parent_at_end.or_else(|| Some(self.counts(parent?))).unwrap_or(state.parent_at_fork);
        let child = state.child_at_end.or_else(|| Some(self.counts(child?))).unwrap_or_default();
        let mut fork = state.fork.clone();
        self.bill_times(state, &mut fork);
        if self.known.has(Kind::Copy) {
            let by_parent = self.sizes.shared(&parent.since(&state.parent_at_fork));
            let by_child = self.sizes.shared(&child);
            fork.parent_copied_bytes = Some(by_parent);
            fork.child_copied_bytes = Some(by_child);
            fork.extra_peak_bytes = Some(by_parent + by_child);
            let shares = matches!(fork.ended_by, ForkEnd::Running);
            fork.extra_now_bytes = Some(if shares { by_parent + by_child } else { 0 });
            fork.forecasts.clone_from(&state.foreseen.forecasts);
            let mut series = state.series.clone();
            if let (Some(lifetime_ns), false) = (fork.lifetime_ns, series.moments().is_empty()) {
                series.push(ForkMoment {
                    at_ns: fork.at_ns + lifetime_ns,
                    parent_copied_bytes: by_parent,
                    child_copied_bytes: by_child,
                });
            }
            let age_ns = fork.lifetime_ns.or_else(|| Some(series.moments().last()?.at_ns - fork.at_ns));
            if age_ns.is_some_and(|age| age >= LATEST_NS) {
                fork.series = series.moments().to_vec();
            }
        }
        fork
    }

    /// The parent of a fork will be gone: what it copied where is put into words.
    pub(super) fn settle_parent(&mut self, place: usize, parent_id: u64) {
        if self.forks[place].regions.keys().any(|(side, _)| *side == Side::Parent) {
            let mut regions = self.fork_regions(&self.forks[place], Some(parent_id));
            regions.retain(|region| region.parent_copied_bytes > 0);
            regions.iter_mut().for_each(|region| region.child_copied_bytes = 0);
            self.forks[place].of_parent = regions;
        }
    }

    fn fork_regions(&self, state: &ForkState, parent_id: Option<u64>) -> Vec<ForkRegion> {
        let process = |id: u64| self.processes.of(id);
        let (parent, child) = (parent_id.and_then(process), process(state.child_id));
        let mut regions: BTreeMap<(u64, String), ForkRegion> =
            state.of_parent.iter().map(|of| ((of.start, of.name.clone()), of.clone())).collect();
        for (&(side, id), &bytes) in &state.regions {
            let of = if side == Side::Parent { parent } else { child };
            let Some(region) = of.and_then(|process| process.space.region(id)) else { continue };
            let entry =
                regions.entry((region.start, region.name.to_string())).or_insert_with(|| ForkRegion {
                    start: region.start,
                    name: region.name.to_string(),
                    parent_copied_bytes: 0,
                    child_copied_bytes: 0,
                });
            match side {
                Side::Parent => entry.parent_copied_bytes += bytes,
                Side::Child => entry.child_copied_bytes += bytes,
            }
        }
        let mut regions: Vec<ForkRegion> = regions.into_values().collect();
        regions.sort_by_key(|region| (std::cmp::Reverse(region.copied_bytes()), region.start));
        regions
    }
}
