//! What a fork cost over time: a bounded number of moments, thinned out as it goes on.

use serde::{Deserialize, Serialize};

/// Moments that are kept for a fork. When there are more, every other one goes.
pub const MAX_MOMENTS: usize = 512;

/// What had been copied because of a fork at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForkMoment {
    /// ns since the start of the session.
    pub at_ns: u64,
    /// Bytes copied by the parent since the fork.
    pub parent_copied_bytes: u64,
    /// Bytes copied by the child.
    pub child_copied_bytes: u64,
}

impl ForkMoment {
    /// Bytes copied by both.
    pub fn copied_bytes(&self) -> u64 {
        self.parent_copied_bytes + self.child_copied_bytes
    }
}

/// The moments of one fork, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForkSeries(Vec<ForkMoment>);

impl ForkSeries {
    /// Adds a moment. While nothing is copied, only the first and the last one are kept.
    pub fn push(&mut self, moment: ForkMoment) {
        if let [.., before, last] = self.0.as_mut_slice()
            && before.copied_bytes() == last.copied_bytes()
            && last.copied_bytes() == moment.copied_bytes()
        {
            *last = moment;
            return;
        }
        if self.0.len() >= MAX_MOMENTS {
            let mut index = 0;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.0.push(moment);
    }

    /// The moments.
    pub fn moments(&self) -> &[ForkMoment] {
        &self.0
    }
}

/// Bytes copied per second in `parts` equal stretches of the time that these moments cover; nothing for fewer than two.
pub fn rates(moments: &[ForkMoment], parts: usize) -> Vec<f64> {
    let (Some(first), Some(last)) = (moments.first(), moments.last()) else { return Vec::new() };
    let whole = last.at_ns.saturating_sub(first.at_ns);
    if whole == 0 || parts == 0 {
        return Vec::new();
    }
    // Between two moments, copies are taken to be spread evenly.
    let copied_at = |at: f64| {
        let after = moments.partition_point(|moment| (moment.at_ns as f64) < at);
        let (Some(a), Some(b)) = (moments.get(after.saturating_sub(1)), moments.get(after)) else {
            return last.copied_bytes() as f64;
        };
        let (from, to) = (a.at_ns as f64, b.at_ns as f64);
        let share = if to > from { ((at - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        let (low, high) = (a.copied_bytes() as f64, b.copied_bytes() as f64);
        low + share * (high - low)
    };
    let step = whole as f64 / parts as f64;
    let edge = |part: usize| copied_at(first.at_ns as f64 + step * part as f64);
    (0..parts).map(|part| (edge(part + 1) - edge(part)) / (step / 1e9)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(second: u64, bytes: u64) -> ForkMoment {
        ForkMoment { at_ns: second * 1_000_000_000, parent_copied_bytes: bytes, child_copied_bytes: 0 }
    }

    #[test]
    fn quiet_times_take_two_moments() {
        let mut series = ForkSeries::default();
        for second in 0..100 {
            series.push(moment(second, if second < 50 { 0 } else { 7 }));
        }
        let kept: Vec<u64> = series.moments().iter().map(|m| m.at_ns / 1_000_000_000).collect();
        assert_eq!(kept, [0, 49, 50, 99]);
    }

    #[test]
    fn the_number_of_moments_is_bounded_and_the_first_and_last_stay() {
        let mut series = ForkSeries::default();
        for second in 0..10_000 {
            series.push(moment(second, second));
        }
        assert!(series.moments().len() <= MAX_MOMENTS);
        assert_eq!(series.moments()[0], moment(0, 0));
        assert_eq!(series.moments().last(), Some(&moment(9_999, 9_999)));
    }

    #[test]
    fn rates_are_per_second_and_add_up() {
        let moments = [moment(0, 0), moment(2, 2000), moment(4, 2000)];
        assert_eq!(rates(&moments, 4), [1000.0, 1000.0, 0.0, 0.0]);
        assert_eq!(rates(&moments, 2), [1000.0, 0.0]);
        assert_eq!(rates(&moments[..1], 2), [] as [f64; 0]);
        assert_eq!(rates(&[], 2), [] as [f64; 0]);
    }
}
