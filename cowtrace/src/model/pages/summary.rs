//! From counts by page to what the report has of a process.

use std::collections::BTreeMap;

use super::{
    Hits, MOST_CELLS, MOST_STRIPS, PageCell, PageMap, PageRun, PageStrip, PageStrips, ProcessPages,
    RepeatedPages, Sharing,
    layout::Layout,
    runs::{Run, Runs},
};
use crate::model::RegionFaults;

/// Runs listed of a process, and of repeated ones.
const RUNS: usize = 16_384;
const REPEATED: usize = 4_096;
/// Runs listed of all processes together.
const ALL_RUNS: usize = 1 << 18;

/// What the summaries of all processes of a report share.
#[derive(Debug)]
pub struct Summary {
    page_size: u64,
    runs_left: usize,
}

/// Sums of one mapping.
struct Sums {
    first: u64,
    last: u64,
    copies: u64,
    hits: u64,
}

impl Summary {
    /// For a report; bytes per page.
    pub fn new(page_size: u64) -> Summary {
        Summary { page_size: page_size.max(1), runs_left: ALL_RUNS }
    }

    /// The pages of a process with these mappings. `drawn`: in cells as well.
    pub fn of(
        &mut self,
        map: &PageMap,
        regions: &[RegionFaults],
        sharing: &Sharing,
        drawn: bool,
    ) -> ProcessPages {
        let layout = Layout::new(regions);
        let mut pages = ProcessPages {
            copies: map.copies,
            replacements: map.replacements,
            overflow: map.overflow,
            unplaced: map.unplaced,
            ..ProcessPages::default()
        };
        let (mut all, mut repeated) = (Runs::new(RUNS.min(self.runs_left)), Runs::new(REPEATED));
        let mut keep = |run: Run| {
            all.push(run);
            if run.run.copies > 1 || run.run.replacements > 1 {
                repeated.push(run);
            }
        };
        let mut sums: BTreeMap<Option<usize>, Sums> = BTreeMap::new();
        let mut open: Option<Run> = None;
        for (page, hits) in map.pages() {
            pages.pages += u64::from(hits.copies > 0);
            pages.replaced_pages += u64::from(hits.replacements > 0);
            let region = layout.at(page.saturating_mul(self.page_size));
            let sum = sums.entry(region).or_insert(Sums { first: page, last: page, copies: 0, hits: 0 });
            sum.last = page;
            sum.copies += u64::from(hits.copies);
            sum.hits += u64::from(hits.copies) + u64::from(hits.replacements);
            let next = self.run(map, page, hits, region);
            match &mut open {
                Some(run) if self.goes_on(run, &next) => {
                    run.run.pages += 1;
                    run.last_ns = run.last_ns.max(next.last_ns);
                    run.kinds |= next.kinds;
                }
                _ => {
                    if let Some(run) = open.replace(next) {
                        keep(run);
                    }
                }
            }
        }
        if let Some(run) = open {
            keep(run);
        }
        let (runs, map_left_out) = all.finish();
        self.runs_left -= runs.len();
        pages.map = runs.iter().map(|run| run.run).collect();
        pages.map_left_out = map_left_out;
        let (runs, left_out) = repeated.finish();
        let name =
            |region: Option<usize>| region.and_then(|index| regions.get(index)).map(|r| r.name.clone());
        pages.repeated = runs
            .iter()
            .map(|run| RepeatedPages {
                run: run.run,
                region: name(run.region).unwrap_or_default(),
                why: sharing.why(&run.run, run.last_ns, run.kinds),
            })
            .collect();
        pages.repeated_left_out = left_out;
        if drawn {
            pages.strips = self.strips(map, regions, &layout, sums);
        }
        pages
    }

    fn run(&self, map: &PageMap, page: u64, hits: Hits, region: Option<usize>) -> Run {
        let (last_ns, kinds) = map.window(page).map_or((0, 0), |window| (window.last_ns, window.kinds));
        let start = page.saturating_mul(self.page_size);
        let run = PageRun { start, pages: 1, copies: hits.copies, replacements: hits.replacements };
        Run { run, region, last_ns, kinds }
    }

    fn goes_on(&self, run: &Run, next: &Run) -> bool {
        let end = run.run.start.saturating_add(run.run.pages.saturating_mul(self.page_size));
        end == next.run.start
            && run.region == next.region
            && (run.run.copies, run.run.replacements) == (next.run.copies, next.run.replacements)
    }

    fn strips(
        &self,
        map: &PageMap,
        regions: &[RegionFaults],
        layout: &Layout,
        sums: BTreeMap<Option<usize>, Sums>,
    ) -> PageStrips {
        let mut order: Vec<(Option<usize>, Sums)> = sums.into_iter().collect();
        order.sort_by_key(|(_, sum)| (std::cmp::Reverse((sum.copies, sum.hits)), sum.first));
        let rest = order.split_off(order.len().min(MOST_STRIPS));
        let left_out_hits = rest.iter().map(|(_, sum)| sum.hits).sum();
        let mut strips: BTreeMap<Option<usize>, PageStrip> = order
            .into_iter()
            .map(|(region, sum)| (region, self.empty(region.and_then(|index| regions.get(index)), &sum)))
            .collect();
        for (page, hits) in map.pages() {
            if let Some(strip) = strips.get_mut(&layout.at(page.saturating_mul(self.page_size))) {
                strip.see(page, hits);
            }
        }
        let mut strips: Vec<PageStrip> = strips.into_values().collect();
        strips.sort_by_key(|strip| strip.from_page);
        PageStrips { strips, left_out: rest.len() as u64, left_out_hits }
    }

    fn empty(&self, region: Option<&RegionFaults>, sum: &Sums) -> PageStrip {
        // The first cell may begin before the first page, so that there may be one more than pages ask for.
        let mut cell_pages = (sum.last - sum.first + 1).div_ceil(MOST_CELLS).next_power_of_two();
        let cells = |cell_pages: u64| sum.last / cell_pages - sum.first / cell_pages + 1;
        if cells(cell_pages) > MOST_CELLS {
            cell_pages *= 2;
        }
        let extent = sum.last - sum.first + 1;
        PageStrip {
            name: region.map_or_else(|| "?".to_owned(), |region| region.name.clone()),
            perms: region.map(|region| region.perms.clone()).unwrap_or_default(),
            mapping_pages: region.map_or(extent, |region| (region.end - region.start) / self.page_size),
            first_page: sum.first - sum.first % cell_pages,
            from_page: sum.first,
            to_page: sum.last,
            cell_pages,
            cells: vec![PageCell::default(); usize::try_from(cells(cell_pages)).unwrap_or(0)],
            ..PageStrip::default()
        }
    }
}

impl PageStrip {
    fn see(&mut self, page: u64, hits: Hits) {
        let cell = PageCell {
            copied: u32::from(hits.copies > 0),
            again: u32::from(hits.copies > 1),
            most: hits.copies,
            replaced: u32::from(hits.replacements > 0),
        };
        let place = page.saturating_sub(self.first_page) / self.cell_pages;
        if let Some(into) = usize::try_from(place).ok().and_then(|place| self.cells.get_mut(place)) {
            *into = into.and(cell);
        }
        self.whole = self.whole.and(cell);
        self.copies += u64::from(hits.copies);
        self.replacements += u64::from(hits.replacements);
    }
}
