//! How long copies took: a histogram for each process.

/// Buckets of a histogram.
pub const TIME_BUCKETS: usize = 256;

/// Buckets for each power of two, and log2 of that.
const PARTS: u64 = 8;
const PARTS_SHIFT: u32 = 3;
/// log2 of the nanoseconds that the first buckets are wide.
const FINEST_SHIFT: u32 = 4;

/// Times of the faults of one process that copied or replaced a page, ns.
///
/// The buckets are 16 ns wide up to 256 ns; above that, each power of two has eight. The last one, from 257 s on, has no end.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CowTimes {
    /// Faults whose begin and end were seen.
    pub count: u64,
    /// Sum.
    pub total_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Faults by time.
    pub buckets: [u64; TIME_BUCKETS],
}

/// The times of one process at one moment; see [`crate::tag::TIMES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// [`crate::tag::TIMES`].
    pub tag: u64,
    /// Monotonic time, ns.
    pub at_ns: u64,
    /// [`crate::ProcSlot::id`] of the process whose birth, exec or exit it was.
    pub id: u64,
    /// One of [`moment`].
    pub moment: u64,
    /// The times so far.
    pub times: CowTimes,
}

/// Values of [`Times::moment`].
pub mod moment {
    /// The process was forked: times of the one that forked it.
    pub const FORKED: u64 = 1;
    /// Its sharing ends by exec or exit: times of the one that forked it.
    pub const UNSHARED: u64 = 2;
    /// It became another program: its own times.
    pub const EXEC: u64 = 3;
    /// It exits: its own times.
    pub const EXIT: u64 = 4;
}

impl CowTimes {
    /// None.
    pub const ZERO: CowTimes = CowTimes { count: 0, total_ns: 0, max_ns: 0, buckets: [0; TIME_BUCKETS] };
}

/// The bucket of a time.
#[inline(always)]
pub fn time_bucket(ns: u64) -> u64 {
    let units = ns >> FINEST_SHIFT;
    if units < PARTS {
        return units;
    }
    let power = 63 - units.leading_zeros();
    let part = units >> (power - PARTS_SHIFT) & (PARTS - 1);
    let bucket = u64::from(power - PARTS_SHIFT + 1) * PARTS + part;
    if bucket < TIME_BUCKETS as u64 { bucket } else { TIME_BUCKETS as u64 - 1 }
}

/// The longest time in a bucket, ns.
pub fn bucket_end_ns(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    if next >= TIME_BUCKETS as u64 {
        return u64::MAX;
    }
    let units = match next / PARTS {
        0 => next,
        row => (PARTS + next % PARTS) << (row - 1),
    };
    (units << FINEST_SHIFT) - 1
}

const _: () = assert!(size_of::<CowTimes>() == 3 * 8 + TIME_BUCKETS * 8);
const _: () = assert!(size_of::<Times>() == 4 * 8 + size_of::<CowTimes>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_ends_where_the_next_begins() {
        for bucket in 0..TIME_BUCKETS - 1 {
            let end = bucket_end_ns(bucket);
            assert_eq!(
                (time_bucket(end), time_bucket(end + 1)),
                (bucket as u64, bucket as u64 + 1),
                "{end} ns"
            );
        }
        assert_eq!(time_bucket(u64::MAX), TIME_BUCKETS as u64 - 1);
        assert_eq!(time_bucket(0), 0);
    }

    #[test]
    fn a_bucket_is_an_eighth_of_its_times_wide_at_most() {
        for ns in [200, 1_000, 2_222, 77_777, 5_000_000, 3_000_000_000, 200_000_000_000] {
            let end = bucket_end_ns(time_bucket(ns) as usize);
            assert!(end >= ns && (end - ns) * 8 <= ns, "{ns} ns: up to {end}");
        }
    }
}
