//! The order of processes.

use std::cmp::Ordering;

use super::Row;

/// What processes are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// Process id.
    Pid,
    /// Command name.
    Comm,
    /// Pages copied per second.
    #[default]
    CopyRate,
    /// Bytes copied per second.
    ByteRate,
    /// Private file pages copied per second.
    FileRate,
    /// Pages copied.
    Copies,
    /// Bytes copied.
    Bytes,
}

impl SortBy {
    const ALL: [SortBy; 7] = [
        SortBy::Pid,
        SortBy::Comm,
        SortBy::CopyRate,
        SortBy::ByteRate,
        SortBy::FileRate,
        SortBy::Copies,
        SortBy::Bytes,
    ];

    /// The column to the right, or to the left.
    #[must_use]
    pub fn next(self, right: bool) -> SortBy {
        let count = SortBy::ALL.len();
        let place = SortBy::ALL.iter().position(|&by| by == self).unwrap_or(0);
        SortBy::ALL[(place + if right { 1 } else { count - 1 }) % count]
    }

    /// Sorts; the largest numbers first, names from A, unless it is `reversed`. Who is equal is sorted by copies, then by id.
    pub fn sort(self, rows: &mut [&Row], reversed: bool) {
        rows.sort_by(|a, b| {
            let order = self.compare(a, b);
            let order = if reversed { order.reverse() } else { order };
            order
                .then_with(|| b.figures.copies.cmp(&a.figures.copies))
                .then_with(|| b.figures.bytes.cmp(&a.figures.bytes))
                .then_with(|| a.identity().cmp(&b.identity()))
        });
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let fastest = |a: Option<f64>, b: Option<f64>| b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0));
        match self {
            SortBy::Pid => a.process.pid.cmp(&b.process.pid),
            SortBy::Comm => a.process.comm.cmp(&b.process.comm),
            SortBy::CopyRate => fastest(a.rates.copies, b.rates.copies),
            SortBy::ByteRate => fastest(a.rates.bytes, b.rates.bytes),
            SortBy::FileRate => fastest(a.rates.file, b.rates.file),
            SortBy::Copies => b.figures.copies.cmp(&a.figures.copies),
            SortBy::Bytes => b.figures.bytes.cmp(&a.figures.bytes),
        }
    }
}
