//! How long copies took: histograms, and what a report tells of them.

use cowtrace_abi::{CowTimes, bucket_end_ns};
use serde::{Deserialize, Serialize};

/// Times of faults that copied or replaced a page, from the fault's begin to its end, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CowTime {
    /// Faults whose time is known.
    pub count: u64,
    /// Sum of their times.
    pub total: u64,
    /// Half of them took no longer: at most an eighth too high; `null` if there were none, as the two that follow.
    pub p50: Option<u64>,
    /// The same for 99 of 100.
    pub p99: Option<u64>,
    /// The longest; of a fork's parent at most an eighth too high.
    pub max: Option<u64>,
}

/// A histogram, without its empty buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeSums {
    count: u64,
    total_ns: u64,
    max_ns: u64,
    /// Bucket and faults in it, ascending.
    buckets: Vec<(usize, u64)>,
}

impl From<&CowTimes> for TimeSums {
    fn from(times: &CowTimes) -> TimeSums {
        let buckets = times.buckets.iter().copied().enumerate().filter(|(_, faults)| *faults > 0).collect();
        TimeSums { count: times.count, total_ns: times.total_ns, max_ns: times.max_ns, buckets }
    }
}

impl TimeSums {
    /// What was added since `earlier`. The longest is only known by its bucket.
    #[must_use]
    pub fn since(&self, earlier: &TimeSums) -> TimeSums {
        let before = |bucket: usize| {
            let found = earlier.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket);
            found.map_or(0, |place| earlier.buckets[place].1)
        };
        let buckets: Vec<(usize, u64)> = self
            .buckets
            .iter()
            .map(|&(bucket, faults)| (bucket, faults.saturating_sub(before(bucket))))
            .filter(|(_, faults)| *faults > 0)
            .collect();
        let last = buckets.last().map_or(0, |(bucket, _)| bucket_end_ns(*bucket));
        let total_ns = self.total_ns.saturating_sub(earlier.total_ns);
        TimeSums {
            count: self.count.saturating_sub(earlier.count),
            total_ns,
            max_ns: last.min(self.max_ns).min(total_ns),
            buckets,
        }
    }

    /// Adds the times of others.
    pub fn merge(&mut self, other: &TimeSums) {
        self.count += other.count;
        self.total_ns += other.total_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        for &(bucket, faults) in &other.buckets {
            match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
                Ok(place) => self.buckets[place].1 += faults,
                Err(place) => self.buckets.insert(place, (bucket, faults)),
            }
        }
    }

    /// What a report tells of it.
    pub fn summary(&self) -> CowTime {
        let known = self.count > 0;
        CowTime {
            count: self.count,
            total: self.total_ns,
            p50: self.percentile(50),
            p99: self.percentile(99),
            max: known.then_some(self.max_ns),
        }
    }

    /// So many of a hundred took no longer: the end of the bucket in which they are reached.
    fn percentile(&self, percent: u64) -> Option<u64> {
        let all: u64 = self.buckets.iter().map(|(_, faults)| faults).sum();
        let wanted = (u128::from(all) * u128::from(percent)).div_ceil(100);
        let mut so_far = 0;
        let bucket = self.buckets.iter().find(|(_, faults)| {
            so_far += u128::from(*faults);
            so_far >= wanted
        });
        bucket.map(|(bucket, _)| bucket_end_ns(*bucket).min(self.max_ns))
    }
}

#[cfg(test)]
mod tests {
    use cowtrace_abi::time_bucket;

    use super::*;

    fn times(all: &[u64]) -> TimeSums {
        let mut times = CowTimes { count: all.len() as u64, ..CowTimes::ZERO };
        for &ns in all {
            times.total_ns += ns;
            times.max_ns = times.max_ns.max(ns);
            times.buckets[time_bucket(ns) as usize] += 1;
        }
        TimeSums::from(&times)
    }

    #[test]
    fn percentiles_are_an_eighth_too_high_at_most() {
        let all: Vec<u64> = (1..=1000).map(|n| n * 10).collect();
        let summary = times(&all).summary();
        assert_eq!((summary.count, summary.total, summary.max), (1000, 5_005_000, Some(10_000)));
        let (p50, p99) = (summary.p50.unwrap(), summary.p99.unwrap());
        assert!((5000..=5625).contains(&p50), "{p50}");
        assert!((9900..=10_000).contains(&p99), "{p99}");
    }

    #[test]
    fn times_of_several_are_as_if_they_were_of_one() {
        let mut sums = times(&[900, 2000]);
        sums.merge(&times(&[2000, 70_000, 300]));
        assert_eq!(sums, times(&[300, 900, 2000, 2000, 70_000]));
    }

    #[test]
    fn of_none_nothing_is_known() {
        assert_eq!(times(&[]).summary(), CowTime::default());
    }

    #[test]
    fn what_came_since_knows_its_longest_by_the_bucket() {
        let before = times(&[900_000, 2000]);
        let after = times(&[900_000, 2000, 2000, 3000]);
        let since = after.since(&before).summary();
        assert_eq!((since.count, since.total), (2, 5000));
        let max = since.max.unwrap();
        assert!((3000..=3375).contains(&max) && since.p50.unwrap() < 2251, "{since:?}");
        assert_eq!(after.since(&after).summary(), CowTime::default());
    }
}
