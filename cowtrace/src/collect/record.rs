//! Ring-buffer records, parsed.

use std::ptr;

use cowtrace_abi::{
    Calibration, Exec, Exit, Fault, Fork, Kind, Pages, REMOTE, Renamed, Times, UNPLACED, WINDOW_EPOCH_SHIFT,
    tag,
};
use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_getres},
};

use crate::model::{PageBatch, TimeSums};

/// One record of the kernel programs.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// A process was created.
    Fork(Box<Fork>),
    /// A process got a name; an exec gives it before it loads the program.
    Renamed(Renamed),
    /// A process became another program.
    Exec(Box<Exec>),
    /// A process is gone.
    Exit(Box<Exit>),
    /// Faults on neighbouring pages.
    Pages(PageBatch),
    /// One fault.
    Fault(Fault),
    /// How long the copies of a process took so far.
    Times(Box<TimesSoFar>),
}

/// [`Times`], made small.
#[derive(Clone, Debug)]
pub(super) struct TimesSoFar {
    pub(super) at_ns: u64,
    pub(super) id: u64,
    pub(super) moment: u64,
    pub(super) sums: TimeSums,
}

impl Record {
    /// Parses the bytes of one record; `None` if they are not one.
    pub(super) fn parse(bytes: &[u8], clock: &KernelClock) -> Option<Record> {
        let tag = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
        Some(match tag {
            tag::FORK => Record::Fork(Box::new(read(bytes)?)),
            tag::RENAMED => Record::Renamed(read(bytes)?),
            tag::EXEC => Record::Exec(Box::new(read(bytes)?)),
            tag::EXIT => Record::Exit(Box::new(read(bytes)?)),
            tag::PAGES => Record::Pages(clock.batch(&read(bytes)?)?),
            tag::FAULT => Record::Fault(read(bytes)?),
            tag::TIMES => {
                let Times { at_ns, id, moment, times, .. } = read(bytes)?;
                Record::Times(Box::new(TimesSoFar { at_ns, id, moment, sums: TimeSums::from(&times) }))
            }
            _ => return None,
        })
    }

    /// When it happened, in monotonic ns; for faults the latest that it can have been.
    pub(super) fn at_ns(&self) -> u64 {
        match self {
            Record::Fork(fork) => fork.at_ns,
            Record::Renamed(renamed) => renamed.at_ns,
            Record::Exec(exec) => exec.at_ns,
            Record::Exit(exit) => exit.process.end_ns,
            Record::Pages(pages) => pages.last_ns,
            Record::Fault(fault) => fault.at_ns,
            Record::Times(times) => times.at_ns,
        }
    }
}

/// Turns jiffies into monotonic time, as a range: a tick is long compared with a fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelClock {
    base_jiffies: u64,
    base_ns: u64,
    tick_ns: u64,
}

impl KernelClock {
    /// From a moment that is known in both.
    pub(super) fn new(calibration: &Calibration) -> KernelClock {
        // The resolution of the coarse clock is the kernel's tick.
        const TEN_MS: u64 = 10_000_000;
        let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(|t| t.num_nanoseconds().unsigned_abs());
        let (base_jiffies, base_ns) = (calibration.base_jiffies, calibration.base_ns);
        KernelClock { base_jiffies, base_ns, tick_ns: tick.unwrap_or(TEN_MS) }
    }

    /// The jiffy began within a tick before its known moment, and lasts a tick.
    pub(super) fn range(&self, jiffies: u64) -> (u64, u64) {
        let passed = (jiffies.wrapping_sub(self.base_jiffies) as i64).saturating_mul(self.tick_ns as i64);
        let known = self.base_ns.saturating_add_signed(passed);
        (known.saturating_sub(self.tick_ns), known.saturating_add(self.tick_ns))
    }

    /// A record of faults; `None` if its kind is not one.
    pub(super) fn batch(&self, pages: &Pages) -> Option<PageBatch> {
        let window = &pages.window;
        Some(PageBatch {
            id: pages.id,
            kind: Kind::from_u8(window.key as u8 & !(REMOTE | UNPLACED) as u8)?,
            window: window.key >> 8 & ((1 << (WINDOW_EPOCH_SHIFT - 8)) - 1),
            epoch: (window.key >> WINDOW_EPOCH_SHIFT) as u16,
            bitmap: window.bitmap,
            faults: window.count,
            span: pages.span,
            first_ns: self.range(window.first_jiffies).0,
            last_ns: self.range(window.last_jiffies).1,
            vma: (window.vma_end != 0).then_some((window.vma_start, window.vma_end)),
            remote: window.key & REMOTE != 0,
            unplaced: window.key & UNPLACED != 0,
        })
    }
}

/// Types of the kernel boundary: plain integers, any bit pattern is valid.
trait Plain: Copy {}
impl Plain for Fork {}
impl Plain for Renamed {}
impl Plain for Exec {}
impl Plain for Exit {}
impl Plain for Pages {}
impl Plain for Fault {}
impl Plain for Times {}

fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, any pattern is a valid T, and the read does not need alignment.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jiffy_is_a_range_of_two_ticks_around_what_is_known() {
        let clock = KernelClock { base_jiffies: 1000, base_ns: 50_000_000, tick_ns: 4_000_000 };
        assert_eq!(clock.range(1000), (46_000_000, 54_000_000));
        assert_eq!(clock.range(1002), (54_000_000, 62_000_000));
        assert_eq!(clock.range(995), (26_000_000, 34_000_000));
    }

    #[test]
    fn short_and_unknown_records_are_refused() {
        let clock = KernelClock { base_jiffies: 0, base_ns: 0, tick_ns: 1 };
        assert!(Record::parse(&[1, 0, 0], &clock).is_none());
        assert!(Record::parse(&99u64.to_ne_bytes(), &clock).is_none());
        assert!(Record::parse(&tag::FORK.to_ne_bytes(), &clock).is_none());
    }
}
