//! A figure in two reports: both values, and how far they are apart.

use serde::Serialize;

/// A count in two reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// In the first report; `null` if it is not known there.
    pub a: Option<u64>,
    /// In the second one.
    pub b: Option<u64>,
    /// `b - a`; `null` if either is.
    pub difference: Option<i64>,
    /// `b / a`; `null` if either is, or `a` is 0.
    pub ratio: Option<f64>,
}

impl Change {
    /// From `a` to `b`.
    pub fn new(a: Option<u64>, b: Option<u64>) -> Change {
        let both = a.zip(b);
        Change {
            a,
            b,
            difference: both.map(|(a, b)| difference(a, b)),
            ratio: both.filter(|(a, _)| *a > 0).map(|(a, b)| b as f64 / a as f64),
        }
    }

    /// Whether both are the same, or neither is known.
    pub fn is_none(&self) -> bool {
        self.a == self.b
    }

    /// Size of the difference; 0 if it is not known.
    pub fn size(&self) -> u64 {
        self.difference.map_or(0, i64::unsigned_abs)
    }
}

/// `b - a` with a sign.
fn difference(a: u64, b: u64) -> i64 {
    let size = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if b < a { -size } else { size }
}

/// A rate in two reports, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// In the first report; `null` if it is not known there.
    pub a: Option<f64>,
    /// In the second one.
    pub b: Option<f64>,
    /// `b - a`; `null` if either is.
    pub difference: Option<f64>,
    /// `b / a`; `null` if either is, or `a` is 0.
    pub ratio: Option<f64>,
}

impl Rate {
    /// Of a count over the lengths of the two sessions, ns.
    pub fn new(count: &Change, a_ns: u64, b_ns: u64) -> Rate {
        let per_second =
            |count: Option<u64>, ns: u64| Some(count? as f64 * 1e9 / ns as f64).filter(|_| ns > 0);
        let (a, b) = (per_second(count.a, a_ns), per_second(count.b, b_ns));
        let both = a.zip(b);
        Rate {
            a,
            b,
            difference: both.map(|(a, b)| b - a),
            ratio: both.filter(|(a, _)| *a > 0.0).map(|(a, b)| b / a),
        }
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Pages copied because of a fork.
    pub copy: Change,
    /// Zero pages replaced.
    pub zero: Change,
    /// Private file pages copied.
    pub file: Change,
    /// Bytes whose content was copied.
    pub copied_bytes: Change,
}

impl Figures {
    /// Whether nothing differs.
    pub fn is_none(&self) -> bool {
        [self.copy, self.zero, self.file, self.copied_bytes].iter().all(Change::is_none)
    }

    /// What the rows are sorted by: copies first.
    pub(super) fn weight(&self) -> [u64; 4] {
        [self.copy, self.copied_bytes, self.file, self.zero].map(|change| change.size())
    }
}

/// The same figures of one report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    pub(super) copy: Option<u64>,
    pub(super) zero: Option<u64>,
    pub(super) file: Option<u64>,
    pub(super) copied_bytes: Option<u64>,
}

impl Sum {
    /// Of nothing.
    pub(super) const ZERO: Sum = Sum { copy: Some(0), zero: Some(0), file: Some(0), copied_bytes: Some(0) };

    /// What is unknown in either is in the sum.
    pub(super) fn plus(self, other: Sum) -> Sum {
        let add = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        Sum {
            copy: add(self.copy, other.copy),
            zero: add(self.zero, other.zero),
            file: add(self.file, other.file),
            copied_bytes: add(self.copied_bytes, other.copied_bytes),
        }
    }

    pub(super) fn change_to(self, b: Sum) -> Figures {
        Figures {
            copy: Change::new(self.copy, b.copy),
            zero: Change::new(self.zero, b.zero),
            file: Change::new(self.file, b.file),
            copied_bytes: Change::new(self.copied_bytes, b.copied_bytes),
        }
    }
}
