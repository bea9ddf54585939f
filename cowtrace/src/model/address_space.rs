//! Which mapping was at an address at a time: the mappings of one process, with their history.

mod history;
mod mapping;
mod piece;
mod program;
#[cfg(test)]
mod tests;
mod unlisted;

use std::collections::BTreeMap;
use std::sync::Arc;

use history::{History, Version};
pub use mapping::{MapEvent, MapEventKind, Mapping, Perms};
use piece::{Piece, Pieces, overlapping, piece_at};
use program::Program;
pub use unlisted::REMOTE_REGION;

/// Live pieces kept per process: twice the kernel's default `vm.max_map_count` of 65,530, because unmapped ones are
/// not reported and stay until something is mapped over them. Beyond it the older half is dropped and counted.
pub const MAX_LIVE: usize = 131_072;
/// Superseded pieces kept per process, oldest dropped and counted. Only writable ones are kept: no other can have
/// taken a copy-on-write fault, and an allocator that opens a reserve page by page would fill the history with it.
pub const MAX_SUPERSEDED: usize = 1_024;
/// Images before an exec that are kept per process.
pub const MAX_IMAGES: usize = 256;
/// Regions per process that a lookup ever returned; further ones are not told apart (the lookup finds nothing).
pub const MAX_REGIONS: usize = 65_536;

/// Names one region of one process for good; larger ones were first seen later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u32);

/// A mapping in the words of the report. It outlives the mapping, so that what was counted keeps its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Lowest address it ever had.
    pub start: u64,
    /// First address behind the highest it ever had.
    pub end: u64,
    /// Permissions; another permission is another region.
    pub perms: Perms,
    /// Path or bracketed name; empty for plain anonymous memory.
    pub name: Arc<str>,
}

/// The answer for one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The region, to be resolved by [`AddressSpace::region`].
    pub region: RegionId,
    /// Several different mappings were there in the time asked for and this is the latest, or none was and this is
    /// the nearest later (or else earlier) one.
    pub ambiguous: bool,
    /// The answer is the same for all addresses from the one asked for up to here, so that a window of pages needs one
    /// lookup; `address + 1` where only that one is known.
    pub end: u64,
}

/// The mappings of one process.
///
/// Memory: about 100 bytes per mapping, shared with the parent until either changes it, and bounded by [`MAX_LIVE`],
/// [`MAX_SUPERSEDED`], [`MAX_IMAGES`] and [`MAX_REGIONS`]. Only regions that a lookup returned are kept as [`Region`].
#[derive(Clone, Debug, Default)]
pub struct AddressSpace {
    live: Pieces,
    history: History,
    regions: BTreeMap<RegionId, Region>,
    next_id: u32,
    /// Since when the present program runs.
    image_ns: u64,
    /// State from a listing or an exec: what is reported with an earlier time was before it.
    settled_ns: u64,
    dropped: u64,
    program: Program,
}

impl AddressSpace {
    /// An empty address space.
    pub fn new() -> AddressSpace {
        AddressSpace::default()
    }

    /// Takes over one reported mapping. It hides what it overlaps.
    pub fn apply(&mut self, at_ns: u64, mut mapping: Mapping) {
        if mapping.start >= mapping.end {
            return;
        }
        self.program.see(&mut mapping);
        if at_ns < self.settled_ns {
            self.apply_late(at_ns, mapping);
        } else {
            self.place(mapping, at_ns, at_ns);
        }
    }

    /// Takes over one event.
    pub fn apply_event(&mut self, at_ns: u64, kind: MapEventKind) {
        match kind {
            MapEventKind::Map(mapping) => self.apply(at_ns, mapping),
            MapEventKind::Exec => self.exec(at_ns),
        }
    }

    /// The process became another program: everything mapped so far is history.
    pub fn exec(&mut self, at_ns: u64) {
        // A listing that was read after the exec already shows the new program.
        if at_ns >= self.settled_ns {
            let old = std::mem::take(&mut self.live);
            self.dropped += self.history.push_image(old, at_ns);
            self.settled_ns = at_ns;
        }
        self.image_ns = self.image_ns.max(at_ns);
        self.program = Program::Starting;
    }

    /// The address space of a child forked at `at_ns`. Costs next to nothing: the tables are shared until one side
    /// changes them. Apply the parent's events up to the fork (plus a tick, where the fork's time is a coarse one)
    /// before; what the parent superseded later is still found by the child's lookups.
    #[must_use]
    pub fn fork(&self, at_ns: u64) -> AddressSpace {
        AddressSpace {
            live: self.live.clone(),
            history: self.history.since(at_ns),
            regions: BTreeMap::new(),
            next_id: self.next_id,
            image_ns: self.image_ns,
            settled_ns: self.settled_ns.min(at_ns),
            dropped: 0,
            program: self.program.clone(),
        }
    }

    /// Corrects the mappings by a full listing (`/proc/PID/maps`), `at_ns` being the clock *before* the listing was
    /// read. What is not listed is unmapped; what was not known is taken to be there since the program started,
    /// because the calls that perf does not report (mremap) are the reason why it was not known.
    pub fn reconcile(&mut self, maps: &[Mapping], at_ns: u64) {
        if at_ns < self.settled_ns {
            return;
        }
        let mut listed: Vec<&Mapping> = maps.iter().filter(|m| m.start < m.end).collect();
        listed.sort_unstable_by_key(|m| m.start);
        let mut unmapped_from = 0;
        for mapping in &listed {
            self.carve(unmapped_from, mapping.start, at_ns);
            unmapped_from = unmapped_from.max(mapping.end);
        }
        self.carve(unmapped_from, u64::MAX, at_ns);
        for mapping in listed {
            if !self.is_known(mapping) {
                self.place(mapping.clone(), at_ns, self.image_ns);
            }
        }
        self.settled_ns = at_ns;
    }

    /// The region of a page that faulted at some time from `first_ns` to `last_ns + tick_ns` (the times are of a
    /// coarse clock, up to a tick behind). Of several mappings that were there in that time the writable ones are
    /// preferred, then the latest. Where none was, the nearest in time is better than nothing, and ambiguous.
    pub fn region_at(&mut self, address: u64, first_ns: u64, last_ns: u64, tick_ns: u64) -> Option<Lookup> {
        let until_ns = last_ns.saturating_add(tick_ns);
        let mut found: Option<Version> = None;
        let mut ambiguous = false;
        let mut consider = |version: Version| match &found {
            Some(best) if best.id == version.id => {}
            Some(best) if best.writable() != version.writable() => {
                if version.writable() {
                    found = Some(version);
                    ambiguous = false;
                }
            }
            Some(best) => {
                ambiguous = true;
                if version.from_ns > best.from_ns {
                    found = Some(version);
                }
            }
            None => found = Some(version),
        };
        let piece = piece_at(&self.live, address);
        let live = piece.map(|piece| Version::of(piece, u64::MAX));
        if let Some(version) = live.as_ref().filter(|version| version.from_ns <= until_ns) {
            consider(version.clone());
        }
        self.history.versions_at(address, first_ns, until_ns, &mut consider);
        // Without history in that time, the whole piece has the same answer.
        let end = piece.map(|piece| piece.end).filter(|_| self.history.is_quiet_since(first_ns));
        let end = end.unwrap_or(address.saturating_add(1));
        let version = match found {
            Some(version) => version,
            None => {
                ambiguous = true;
                live.or_else(|| self.history.latest_at(address))?
            }
        };
        let region = self.register(&version)?;
        Some(Lookup { region, ambiguous, end })
    }

    /// A region that a lookup returned.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.regions.get(&id)
    }

    /// All regions that lookups returned.
    pub fn regions(&self) -> impl Iterator<Item = (RegionId, &Region)> {
        self.regions.iter().map(|(&id, region)| (id, region))
    }

    /// All regions that lookups returned, when nothing more is to be looked up.
    pub fn into_regions(self) -> BTreeMap<RegionId, Region> {
        self.regions
    }

    /// Forgets all but the regions that lookups returned: what a process that is gone still needs.
    pub fn compact(&mut self) {
        self.live = Pieces::new_sync();
        self.history = History::default();
    }

    /// The mappings believed to be there now, by address.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping> + '_ {
        self.live.iter().map(|(&start, piece)| piece.as_mapping(start))
    }

    /// Whether nothing is known about present mappings.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Pieces given up because of the bounds on memory.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Puts a mapping over what is there. `gap_from_ns` is since when it counts where nothing was known.
    fn place(&mut self, mapping: Mapping, at_ns: u64, gap_from_ns: u64) {
        let covered = overlapping(&self.live, mapping.start, mapping.end);
        // A mapping that grew, or was merged with its neighbours, is reported whole.
        let grown = covered
            .iter()
            .filter(|(start, piece)| *start >= mapping.start && piece.end <= mapping.end)
            .filter(|(_, piece)| piece.mapping.same_identity(&mapping))
            .max_by_key(|(start, piece)| piece.end - start);
        let (start, end) = (mapping.start, mapping.end);
        let Some((_, old)) = grown else {
            let from_ns = if covered.is_empty() { gap_from_ns } else { at_ns };
            self.carve_out(&covered, start, end, at_ns, None);
            let id = RegionId(self.next_id);
            self.next_id = self.next_id.saturating_add(1);
            self.insert(start, Piece { end, from_ns, id, mapping: Arc::new(mapping) });
            return;
        };
        let id = old.id;
        let name = Arc::clone(old.mapping.better_name(&mapping));
        let hull = Mapping {
            start: start.min(old.mapping.start),
            end: end.max(old.mapping.end),
            // The offset belongs to the start, which the union may have moved.
            offset: mapping.offset.wrapping_sub(start.saturating_sub(old.mapping.start)),
            name: Arc::clone(&name),
            perms: mapping.perms,
        };
        if let Some(region) = self.regions.get_mut(&id) {
            region.start = region.start.min(start);
            region.end = region.end.max(end);
            region.name = name;
        }
        self.carve_out(&covered, start, end, at_ns, Some(id));
        let mapping = Arc::new(hull);
        let hides_writable = covered.iter().any(|(_, piece)| piece.id != id && piece.mapping.perms.write);
        let kept = covered.iter().filter(|(_, piece)| piece.id == id);
        if !hides_writable {
            let from_ns = kept.map(|(_, piece)| piece.from_ns).fold(at_ns, u64::min);
            self.insert(start, Piece { end, from_ns, id, mapping });
            return;
        }
        // Where another writable mapping gave way, only the time tells whose a fault was.
        let mut next = start;
        for (kept_start, piece) in kept {
            let (kept_start, kept_end) = ((*kept_start).max(start), piece.end.min(end));
            if next < kept_start {
                self.insert(
                    next,
                    Piece { end: kept_start, from_ns: at_ns, id, mapping: Arc::clone(&mapping) },
                );
            }
            let from_ns = piece.from_ns;
            self.insert(kept_start, Piece { end: kept_end, from_ns, id, mapping: Arc::clone(&mapping) });
            next = kept_end;
        }
        if next < end {
            self.insert(next, Piece { end, from_ns: at_ns, id, mapping });
        }
    }

    /// A mapping reported with a time before the state that is known: it was there, and is not or is known already.
    fn apply_late(&mut self, at_ns: u64, mapping: Mapping) {
        if mapping.perms.write && !self.is_known(&mapping) {
            let (start, end) = (mapping.start, mapping.end);
            let id = RegionId(self.next_id);
            self.next_id = self.next_id.saturating_add(1);
            let piece = Piece { end, from_ns: at_ns, id, mapping: Arc::new(mapping) };
            self.dropped += self.history.push(start, end, &piece, self.settled_ns);
        }
    }

    /// Whether the whole range is already held by sightings of this very mapping.
    fn is_known(&self, mapping: &Mapping) -> bool {
        let mut next = mapping.start;
        for (start, piece) in overlapping(&self.live, mapping.start, mapping.end) {
            if start > next || !piece.mapping.same_identity(mapping) {
                return false;
            }
            // A name that perf could not know must get in.
            if piece.mapping.name.is_empty() && !mapping.name.is_empty() {
                return false;
            }
            next = piece.end;
        }
        next >= mapping.end
    }

    /// Empties a range; what was in it is history.
    fn carve(&mut self, start: u64, end: u64, at_ns: u64) {
        let covered = overlapping(&self.live, start, end);
        self.carve_out(&covered, start, end, at_ns, None);
    }

    /// The same, where what is in the range is known already. Pieces of `grown` go on in what comes instead.
    fn carve_out(
        &mut self,
        covered: &[(u64, Piece)],
        start: u64,
        end: u64,
        at_ns: u64,
        grown: Option<RegionId>,
    ) {
        for (first, piece) in covered {
            let first = *first;
            self.live.remove_mut(&first);
            if piece.mapping.perms.write && Some(piece.id) != grown {
                self.dropped += self.history.push(first.max(start), piece.end.min(end), piece, at_ns);
            }
            if first < start {
                self.live.insert_mut(first, Piece { end: start, ..piece.clone() });
            }
            if piece.end > end {
                self.live.insert_mut(end, piece.clone());
            }
        }
    }

    fn insert(&mut self, start: u64, piece: Piece) {
        self.live.insert_mut(start, piece);
        if self.live.size() > MAX_LIVE {
            self.drop_older_half();
        }
    }

    /// Half at a time, so that the cost is spread over as many mappings.
    fn drop_older_half(&mut self) {
        let mut ages: Vec<(u64, u64)> =
            self.live.iter().map(|(&start, piece)| (piece.from_ns, start)).collect();
        let middle = ages.len() / 2;
        ages.select_nth_unstable(middle);
        for (_, start) in ages.iter().take(middle) {
            self.live.remove_mut(start);
        }
        self.dropped += middle as u64;
    }

    fn register(&mut self, version: &Version) -> Option<RegionId> {
        if !self.regions.contains_key(&version.id) {
            if self.regions.len() >= MAX_REGIONS {
                return None;
            }
            let Mapping { start, end, perms, name, .. } = &*version.mapping;
            let region = Region { start: *start, end: *end, perms: *perms, name: Arc::clone(name) };
            self.regions.insert(version.id, region);
        }
        Some(version.id)
    }
}
