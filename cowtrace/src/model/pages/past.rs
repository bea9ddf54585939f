//! When a process forked, of forks that are known by nothing else: in bounded memory, and so in groups.

/// Groups that are kept. When there are more, neighbours become one.
const KEPT: usize = 4096;

/// Times of forks.
#[derive(Clone, Debug)]
pub struct PastForks {
    /// When the first of a group was, monotonic ns, and how many are in it. At the earlier time: too many forks explain a
    /// copy sooner than too few.
    groups: Vec<(u64, u64)>,
    /// As large as a group may become.
    largest: u64,
}

impl Default for PastForks {
    fn default() -> PastForks {
        PastForks { groups: Vec::new(), largest: 1 }
    }
}

impl PastForks {
    /// Adds a fork, monotonic ns.
    pub fn add(&mut self, at_ns: u64) {
        let place = self.groups.partition_point(|&(at, _)| at <= at_ns);
        match place.checked_sub(1).and_then(|before| self.groups.get_mut(before)) {
            Some((_, forks)) if *forks < self.largest => *forks += 1,
            _ => self.groups.insert(place, (at_ns, 1)),
        }
        if self.groups.len() > KEPT {
            self.join();
        }
    }

    /// Makes half as many groups of them, which become no larger than they must.
    fn join(&mut self) {
        loop {
            let largest = self.largest;
            self.groups.dedup_by(|(_, more), (_, forks)| {
                let fits = *forks + *more <= largest;
                *forks += if fits { *more } else { 0 };
                fits
            });
            if self.groups.len() <= KEPT / 2 + 1 {
                return;
            }
            self.largest *= 2;
        }
    }

    /// How many there were up to then.
    pub(super) fn until(&self, at_ns: u64) -> u64 {
        self.groups.iter().take_while(|(at, _)| *at <= at_ns).map(|(_, forks)| forks).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forks_are_counted_and_few_too_early() {
        const FORKS: u64 = 100_000;
        let mixed = (0..FORKS).map(|number| number * 7919 % FORKS);
        let orders: [Vec<u64>; 3] = [(0..FORKS).collect(), (0..FORKS).rev().collect(), mixed.collect()];
        for order in orders {
            let mut past = PastForks::default();
            for at_ns in order {
                past.add(at_ns);
            }
            assert!(past.groups.len() <= KEPT, "{}", past.groups.len());
            assert_eq!(past.until(u64::MAX), FORKS);
            let half = past.until(FORKS / 2 - 1);
            assert!((FORKS / 2..FORKS / 2 + 200).contains(&half), "{half}");
        }
    }

    #[test]
    fn a_few_are_exact() {
        let mut past = PastForks::default();
        [30, 10, 20].into_iter().for_each(|at_ns| past.add(at_ns));
        assert_eq!([9, 10, 25, 30].map(|at_ns| past.until(at_ns)), [0, 1, 2, 3]);
    }
}
