//! How much a fork in flight will have copied when it ends.
//!
//! Each of the N pages that were shared at the fork is written for the first time after a while; only that write copies it. A
//! page that is written at a rate λ, at random, is still shared after a time t with the probability exp(-λt). Pages differ in
//! their rates: hot keys, cold ones, memory that nobody writes. The copies so far tell how the rates are distributed: this is
//! the usual estimate of survival times, of which some lie beyond the end of the observation, with a mixture of exponentials,
//! by expectation maximisation.

use serde::{Deserialize, Serialize};

use super::ForkMoment;

/// Rates that are told apart, between one write in so many lifetimes of the fork and so many writes in one.
const RATES: usize = 25;
const SLOWEST: f64 = 1.0 / 50.0;
const FASTEST: f64 = 60.0;
/// Stretches of time into which the copies so far are put.
const STRETCHES: usize = 32;
const ROUNDS: usize = 3000;
/// A share so small is none: numbers near the smallest that there are take the processor many times longer.
const NOTHING: f64 = 1e-200;
/// Where the estimate begins: most pages are written about as often as if all were written equally often, with rates that
/// differ by this power of e; some are never written.
const SPREAD: f64 = 2.0;
const FEW: f64 = 1e-4;
const NEVER: f64 = 0.05;
/// Fewer moments, or pages, than this say nothing.
const LEAST_MOMENTS: usize = 8;
const LEAST_PAGES: f64 = 64.0;
/// The estimate is not better than this, however well it would have done before.
const LEAST_ERROR: f64 = 0.10;
/// The error where it cannot be told how it would have done before.
const UNKNOWN_ERROR: f64 = 0.25;

/// What is expected of a fork, at a moment of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Forecast {
    /// When this was expected, ns since the start of the session.
    pub at_ns: u64,
    /// When the fork was expected to end, the same.
    pub end_ns: u64,
    /// Bytes copied by both sides until then: the best guess.
    pub expected_bytes: u64,
    /// No less than this, as far as the estimate from a part of what was known would have been right.
    pub low_bytes: u64,
    /// No more than this at the present rate of writes: what it would be if all shared pages were written equally often.
    pub high_bytes: u64,
}

/// What the forecast is made from.
#[derive(Clone, Copy, Debug)]
pub struct ForkSoFar<'a> {
    /// What was copied since the fork; the first moment is the fork itself.
    pub moments: &'a [ForkMoment],
    /// When it is expected to end, ns since the start of the session.
    pub end_ns: u64,
    /// Private memory of the parent at the fork.
    pub shared_bytes: u64,
    /// Bytes per page.
    pub page_size: u64,
}

/// Looks ahead; `None` if there is too little to go by.
pub fn forecast(fork: &ForkSoFar<'_>) -> Option<Forecast> {
    let (first, last) = (fork.moments.first()?, fork.moments.last()?);
    let seconds = |ns: u64| ns.saturating_sub(first.at_ns) as f64 / 1e9;
    let (now, end) = (seconds(last.at_ns), seconds(fork.end_ns));
    let page = fork.page_size as f64;
    let copied = last.copied_bytes() as f64 / page;
    if fork.moments.len() < LEAST_MOMENTS || copied < LEAST_PAGES || end <= now || now <= 0.0 {
        return None;
    }
    let curve = Curve {
        points: fork.moments.iter().map(|m| (seconds(m.at_ns), m.copied_bytes() as f64 / page)).collect(),
    };
    let shared = (fork.shared_bytes as f64 / page).max(copied);
    let expected = estimate(&curve, now, end, shared);
    // As far back as it is to the end, in proportion: what would have been expected of now?
    let before = now * now / end;
    let known = curve.points.iter().filter(|(at, _)| *at <= before).count();
    let error = match known >= LEAST_MOMENTS {
        true => (estimate(&curve, before, now, shared) / copied - 1.0).abs().max(LEAST_ERROR),
        false => UNKNOWN_ERROR,
    };
    // With rates that differ, the ones that are written often are copied first: what is left is copied more slowly.
    let most = shared * (1.0 - (1.0 - copied / shared).max(0.0).powf(end / now));
    let bytes = |pages: f64| (pages * page).round() as u64;
    let high = most.max(expected);
    Some(Forecast {
        at_ns: last.at_ns,
        end_ns: fork.end_ns,
        expected_bytes: bytes(expected),
        low_bytes: bytes((expected * (1.0 - error.min(1.0))).max(copied)),
        high_bytes: bytes(high),
    })
}

/// Pages copied, over seconds since the fork.
struct Curve {
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// Between two points, copies are taken to be spread evenly.
    fn at(&self, second: f64) -> f64 {
        let after = self.points.partition_point(|(at, _)| *at < second);
        let (Some(&(from, low)), Some(&(to, high))) =
            (self.points.get(after.saturating_sub(1)), self.points.get(after))
        else {
            return self.points.last().map_or(0.0, |(_, pages)| *pages);
        };
        let share = if to > from { ((second - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        low + share * (high - low)
    }
}

/// Pages copied by `end`, from what was copied by `now`.
fn estimate(curve: &Curve, now: f64, end: f64, shared: f64) -> f64 {
    let edge = |stretch: usize| now * stretch as f64 / STRETCHES as f64;
    // Pages copied in each stretch, and, last, those that are not copied yet.
    let mut seen = [0.0; STRETCHES + 1];
    for (k, copies) in seen[..STRETCHES].iter_mut().enumerate() {
        *copies = (curve.at(edge(k + 1)) - curve.at(edge(k))).max(0.0);
    }
    let left = (shared - seen.iter().sum::<f64>()).max(0.0);
    seen[STRETCHES] = left;
    // The first is that of pages that are never written.
    let rates: [f64; RATES] = std::array::from_fn(|j| match j.checked_sub(1) {
        Some(step) => SLOWEST * (FASTEST / SLOWEST).powf(step as f64 / (RATES - 2) as f64) / end,
        None => 0.0,
    });
    let survives = |rate: f64, until: f64| (-rate * until).exp();
    // How likely that is for a page of each rate.
    let likely: [[f64; RATES]; STRETCHES + 1] = std::array::from_fn(|k| match k {
        STRETCHES => rates.map(|rate| survives(rate, now)),
        _ => rates.map(|rate| survives(rate, edge(k)) - survives(rate, edge(k + 1))),
    });
    // Both ways round: the terms of one sum wait for one another, those of many sums at once do not.
    let by_rate: [[f64; STRETCHES + 1]; RATES] = std::array::from_fn(|j| likely.map(|of_rates| of_rates[j]));
    let mut parts = beginning(&rates, -(left / shared).max(1e-3).ln() / now);
    for _ in 0..ROUNDS {
        let all = weighted(&by_rate, &parts);
        let excess = std::array::from_fn(|k| if all[k] > 0.0 { seen[k] / all[k] } else { 0.0 });
        let growth = weighted(&likely, &excess);
        let pages: [f64; RATES] = std::array::from_fn(|j| parts[j] * growth[j]);
        let sum: f64 = pages.iter().sum();
        if sum <= 0.0 {
            break;
        }
        parts = pages.map(|pages| if pages > sum * NOTHING { pages / sum } else { 0.0 });
    }
    let later: f64 = parts.iter().zip(rates).map(|(part, rate)| part * (1.0 - survives(rate, end))).sum();
    (shared * later).max(curve.at(now))
}

/// The sum of rows, each times its weight.
fn weighted<const ROWS: usize, const COLUMNS: usize>(
    rows: &[[f64; COLUMNS]; ROWS],
    weights: &[f64; ROWS],
) -> [f64; COLUMNS] {
    let mut sums = [0.0; COLUMNS];
    for (row, weight) in rows.iter().zip(weights) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += weight * value;
        }
    }
    sums
}

/// The shares of the rates before anything else is known than how many pages were copied.
fn beginning(rates: &[f64; RATES], alike: f64) -> [f64; RATES] {
    let weight = |rate: f64| (-(rate / alike).ln().powi(2) / (2.0 * SPREAD * SPREAD)).exp() + FEW;
    let sum: f64 = rates[1..].iter().map(|&rate| weight(rate)).sum();
    rates.map(|rate| if rate > 0.0 { (1.0 - NEVER) * weight(rate) / sum } else { NEVER })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;
    const MS: u64 = 1_000_000;

    /// Pages and their rates per second; looked at each 100 ms.
    fn moments(classes: &[(f64, f64)], until_ms: u64) -> Vec<ForkMoment> {
        let copied = |seconds: f64| {
            classes.iter().map(|(pages, rate)| pages * (1.0 - (-rate * seconds).exp())).sum::<f64>()
        };
        let moment = |ms: u64| ForkMoment {
            at_ns: 5_000 * MS + ms * MS,
            parent_copied_bytes: copied(ms as f64 / 1e3).round() as u64 * PAGE,
            child_copied_bytes: 0,
        };
        (0..=until_ms / 100).map(|step| moment(step * 100)).collect()
    }

    /// The forecast after a quarter of 20 s, and what it becomes.
    fn after_a_quarter(classes: &[(f64, f64)]) -> (Forecast, f64) {
        let shared: f64 = classes.iter().map(|(pages, _)| pages).sum();
        let all = moments(classes, 20_000);
        let so_far = ForkSoFar {
            moments: &all[..=50],
            end_ns: 25_000 * MS,
            shared_bytes: shared as u64 * PAGE,
            page_size: PAGE,
        };
        (forecast(&so_far).unwrap(), all.last().unwrap().copied_bytes() as f64)
    }

    #[test]
    fn uniform_and_skewed_writes_are_foreseen() {
        for (name, classes) in [
            ("all alike, nearly all copied", &[(60_000.0, 0.2)][..]),
            ("all alike, a third copied", &[(60_000.0, 0.02)]),
            ("hot and cold", &[(3_000.0, 2.0), (57_000.0, 0.03)]),
            ("hot, and memory that nobody writes", &[(3_000.0, 1.0), (57_000.0, 0.0)]),
            ("three kinds", &[(3_000.0, 3.0), (10_000.0, 0.2), (50_000.0, 0.01)]),
        ] {
            let (found, end) = after_a_quarter(classes);
            let ratio = found.expected_bytes as f64 / end;
            assert!((0.85..=1.15).contains(&ratio), "{name}: {ratio:.3} of what it becomes");
            let range = found.low_bytes as f64..=found.high_bytes as f64 * 1.001;
            assert!(range.contains(&end), "{name}: {found:?}, but {end}");
        }
    }

    #[test]
    fn no_more_than_what_is_shared_is_expected() {
        let classes = [(1_000.0, 5.0)];
        let (found, _) = after_a_quarter(&classes);
        assert!(found.high_bytes <= 1_000 * PAGE && found.expected_bytes <= found.high_bytes, "{found:?}");
    }

    #[test]
    fn too_little_is_told_nothing_from() {
        let all = moments(&[(60_000.0, 0.2)], 20_000);
        let of = |moments| ForkSoFar { moments, end_ns: 25_000 * MS, shared_bytes: 1 << 30, page_size: PAGE };
        assert_eq!(forecast(&of(&all[..5])), None);
        assert_eq!(forecast(&of(&[])), None);
        assert_eq!(forecast(&ForkSoFar { end_ns: 6_000 * MS, ..of(&all[..50]) }), None, "its end is over");
        let idle = moments(&[(10.0, 1.0)], 20_000);
        assert_eq!(forecast(&of(&idle[..50])), None);
    }
}
