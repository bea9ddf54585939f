//! Which mapping of the second reading is which of the first, and the ledger's rows for them.

use super::{Explained, NO_MAPPING, Row, family::Move};
use crate::proc::{Snapshot, Vma};

/// One mapping at both readings, grown, shrunk or split as it may be meanwhile.
#[derive(Debug)]
struct Region {
    label: String,
    perms: String,
    start: u64,
    end: u64,
    private_dirty_kb: [u64; 2],
    cache_kb: [u64; 2],
    explained: Explained,
}

impl Region {
    fn new(vma: &Vma) -> Region {
        Region {
            label: vma.label().into(),
            perms: vma.perms.clone(),
            start: vma.start,
            end: vma.end,
            private_dirty_kb: [0; 2],
            cache_kb: [0; 2],
            explained: Explained::default(),
        }
    }

    fn add(&mut self, side: usize, vma: &Vma) {
        self.end = self.end.max(vma.end);
        self.private_dirty_kb[side] += vma.private_dirty_kb;
        self.cache_kb[side] += vma.cache_private_dirty_kb;
    }
}

/// The mappings of a process at two readings.
#[derive(Debug)]
pub(super) struct Regions {
    page_size: u64,
    /// The process became another program in between: nothing of the first reading is left.
    replaced: bool,
    /// The life that the second reading shows.
    image: u32,
    /// Of the first reading, if the process was replaced since; by address.
    old: Vec<Region>,
    /// Of both readings; by address.
    present: Vec<Region>,
}

const BEFORE: usize = 0;
const AFTER: usize = 1;

impl Regions {
    /// The process at the two readings, where it was alive at them; `image` counts its lives.
    pub fn new(before: Option<&Snapshot>, after: Option<&Snapshot>, image: u32) -> Regions {
        let page_size = before.or(after).map_or(1, |snapshot| snapshot.page_size);
        let vmas = |side: Option<&'_ Snapshot>| side.map_or(Vec::new(), |snapshot| snapshot.vmas.clone());
        let (first, second) = (vmas(before), vmas(after));
        let replaced = image > 0;
        let (old, present) = if replaced {
            (merge(&first, &[]), merge(&[], &second))
        } else {
            (Vec::new(), merge(&first, &second))
        };
        Regions { page_size, replaced, image, old, present }
    }

    /// The ledger's rows, given the moves of this process.
    pub fn rows(mut self, pid: u32, moves: &[Move]) -> Vec<Row> {
        let mut nowhere = Explained::default();
        for step in moves {
            let address = step.page * self.page_size;
            let regions = if self.replaced && step.image == 0 {
                Some(&mut self.old)
            } else {
                (step.image == self.image).then_some(&mut self.present)
            };
            let explained =
                regions.and_then(|regions| find(regions, address)).map_or(&mut nowhere, |r| &mut r.explained);
            explained.add(step.reason, step.amount.into());
        }
        let page_kb = (self.page_size / 1024).max(1).cast_signed();
        let mut rows = Vec::new();
        for mut region in self.old.into_iter().chain(self.present) {
            let moved = |kb: [u64; 2]| (kb[AFTER].cast_signed() - kb[BEFORE].cast_signed()) / page_kb;
            region.explained.page_cache = moved(region.cache_kb);
            if region.private_dirty_kb == [0, 0] && region.explained.is_empty() {
                continue;
            }
            rows.push(Row {
                pid,
                region: region.label,
                perms: region.perms,
                private_dirty_kb: region.private_dirty_kb,
                explained_pages: region.explained,
                residual_pages: moved(region.private_dirty_kb) - region.explained.total(),
            });
        }
        // Mapped and unmapped again in between: that cancels out, or some event was wrong.
        if nowhere.total() != 0 {
            rows.push(Row {
                pid,
                region: NO_MAPPING.into(),
                perms: String::new(),
                private_dirty_kb: [0, 0],
                explained_pages: nowhere,
                residual_pages: -nowhere.total(),
            });
        }
        rows
    }
}

fn find(regions: &mut [Region], address: u64) -> Option<&mut Region> {
    let after = regions.partition_point(|region| region.start <= address);
    regions.get_mut(after.checked_sub(1)?).filter(|region| address < region.end)
}

/// Mappings of the two readings that overlap are one region.
fn merge(before: &[Vma], after: &[Vma]) -> Vec<Region> {
    let mut all: Vec<(usize, &Vma)> =
        before.iter().map(|vma| (BEFORE, vma)).chain(after.iter().map(|vma| (AFTER, vma))).collect();
    all.sort_by_key(|(side, vma)| (vma.start, *side));
    let mut regions: Vec<Region> = Vec::new();
    for (side, vma) in all {
        match regions.last_mut() {
            Some(region) if vma.start < region.end => region.add(side, vma),
            _ => {
                let mut region = Region::new(vma);
                region.add(side, vma);
                regions.push(region);
            }
        }
    }
    regions
}
