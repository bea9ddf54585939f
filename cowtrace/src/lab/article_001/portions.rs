//! Writes in portions, a checkpoint after each: how `Private_Dirty` follows the copies.

use cowtrace_abi::Kind;

use super::shared_buffer::{BOTH, Extent, FORKED};
use crate::lab::{
    report::{Axis, Curve, Series},
    story::Story,
};

/// The checkpoints after the portions.
#[derive(Debug)]
pub(super) struct Portions {
    count: u64,
    done: &'static str,
    last: String,
}

impl Portions {
    /// So many; `done` says what happens in each: `written`.
    pub fn new(count: u64, done: &'static str) -> Portions {
        Portions { count, done, last: format!("{count}/{count} {done}") }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Names of the checkpoints.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.count).map(|index| format!("{index}/{} {}", self.count, self.done))
    }

    /// Name of the last one.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// Copies that this process has made in its buffer up to each checkpoint, since the fork.
    pub fn copies(&self, story: &Story, role: usize) -> Vec<u64> {
        let copies = |name: String| story.buffer_faults_before(&name, role, Some(Kind::Copy)).unwrap_or(0);
        let total = |sum: &mut u64, more| {
            *sum += more;
            Some(*sum)
        };
        self.names().map(copies).scan(0, total).collect()
    }
}

/// Where `Private_Dirty` of a process is farthest from what the writer has copied.
pub(super) fn largest_gap_kb(
    story: &Story,
    portions: &Portions,
    role: usize,
    writer: usize,
    extent: Extent,
) -> Option<u64> {
    let copies = portions.copies(story, writer);
    let gap = |(name, copies): (String, u64)| {
        Some(story.buffer_at(&name, role)?.private_dirty_kb.abs_diff(extent.kb(copies)))
    };
    let gaps = portions.names().zip(copies).map(gap).collect::<Option<Vec<u64>>>()?;
    gaps.into_iter().max()
}

const PRIVATE_DIRTY: Axis = Axis { label: "Private_Dirty", unit: "kB" };

/// `Private_Dirty` of both processes over the copies that the writer has made.
pub(super) fn private_dirty_over_copies(
    story: &Story,
    portions: &Portions,
    writer: usize,
    extent: Extent,
) -> Curve {
    let copies = with_start(portions.copies(story, writer));
    let mut series = measured(story, portions, &copies.iter().map(|&n| n as f64).collect::<Vec<_>>());
    series.push(Series {
        name: "copies x page size".into(),
        measured: false,
        points: copies.iter().map(|&n| [n as f64, extent.kb(n) as f64]).collect(),
    });
    Curve {
        title: "Private_Dirty of both processes follows the copies of one".into(),
        x: Axis { label: "copies", unit: "pages" },
        y: PRIVATE_DIRTY,
        series,
    }
}

/// The same over the time that the portions took, ns each.
pub(super) fn private_dirty_over_time(
    story: &Story,
    portions: &Portions,
    writer: usize,
    extent: Extent,
    ns: &[u64],
) -> Curve {
    let mut elapsed_ns = 0;
    let mut ms = vec![0.0];
    for ns in ns {
        elapsed_ns += ns;
        ms.push(elapsed_ns as f64 / 1e6);
    }
    let copies = with_start(portions.copies(story, writer));
    let mut series = measured(story, portions, &ms);
    series.push(Series {
        name: "copies x page size".into(),
        measured: true,
        points: ms.iter().zip(copies).map(|(&ms, n)| [ms, extent.kb(n) as f64]).collect(),
    });
    Curve {
        title: "Private_Dirty of both processes over time, checkpoints left out".into(),
        x: Axis { label: "time", unit: "ms" },
        y: PRIVATE_DIRTY,
        series,
    }
}

fn with_start(mut figures: Vec<u64>) -> Vec<u64> {
    figures.insert(0, 0);
    figures
}

/// `Private_Dirty` of both, from the fork on.
fn measured(story: &Story, portions: &Portions, x: &[f64]) -> Vec<Series> {
    let series = |(role, name): (usize, &str)| {
        let kb = |checkpoint: &str| story.buffer_at(checkpoint, role).map(|vma| vma.private_dirty_kb as f64);
        let names = std::iter::once(FORKED.to_owned()).chain(portions.names());
        let points = names.zip(x).filter_map(|(name, &x)| Some([x, kb(&name)?])).collect();
        Series { name: format!("{name}, smaps"), measured: true, points }
    };
    BOTH.map(series).into()
}
