//! Counts over time: which rows `samples` gets, and which it loses again.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, Result, params, params_from_iter};

use super::schema::{KINDS, counts};
use crate::model::Process;

/// Rows kept per process; above it, every second one is removed. Tests reach it sooner.
pub(super) const MOST_ROWS: usize = if cfg!(test) { 64 } else { 4096 };

const COUNTS: usize = KINDS.len() + 1;

/// The counts of a row: by kind, and `wpcopy`.
type Row = [Option<u64>; COUNTS];

/// What the samples of living processes are at.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    last: HashMap<u64, Last>,
    /// Time of the last snapshot, ns since the start.
    snapshot_ns: u64,
}

/// The last row of a process.
#[derive(Clone, Debug)]
struct Last {
    row: Row,
    at_ns: u64,
    rows: usize,
}

impl Samples {
    /// Adds what a process has counted since its last row; `now_ns`: time of this snapshot.
    pub(super) fn add(&mut self, db: &Connection, number: u64, process: &Process, now_ns: u64) -> Result<()> {
        let row = row_of(process);
        let first = || Last { row: row.map(|count| count.map(|_| 0)), at_ns: process.start_ns, rows: 0 };
        let mut last = self.last.remove(&number).unwrap_or_else(first);
        if row != last.row {
            let time_ns = process.end_ns.unwrap_or(now_ns).max(last.at_ns);
            let mut insert = db.prepare_cached(&insert_statement())?;
            // Since the last snapshot, and not since the last row, which may be long ago.
            if last.at_ns < self.snapshot_ns && self.snapshot_ns < time_ns {
                insert_row(&mut insert, number, self.snapshot_ns, &last.row)?;
                last.rows += 1;
            }
            insert_row(&mut insert, number, time_ns, &row)?;
            last = Last { row, at_ns: time_ns, rows: last.rows + 1 };
            if last.rows > MOST_ROWS {
                last.rows -= thin_out(db, number)?;
            }
        }
        if process.end_ns.is_none() {
            self.last.insert(number, last);
        }
        Ok(())
    }

    /// All processes have been looked at.
    pub(super) fn end_snapshot(&mut self, now_ns: u64) {
        self.snapshot_ns = now_ns;
    }
}

fn row_of(process: &Process) -> Row {
    let mut row = [process.wpcopy; COUNTS];
    row[..KINDS.len()].copy_from_slice(&counts(&process.faults));
    row
}

fn insert_statement() -> String {
    let places = vec!["?"; COUNTS + 2].join(", ");
    format!("INSERT OR REPLACE INTO samples VALUES ({places})")
}

fn insert_row(insert: &mut CachedStatement<'_>, number: u64, time_ns: u64, row: &Row) -> Result<()> {
    let key = [Some(number), Some(time_ns)];
    insert.execute(params_from_iter(key.iter().chain(row)))?;
    Ok(())
}

/// Removes every second row of a process, the last one stays. Returns how many.
fn thin_out(db: &Connection, number: u64) -> Result<usize> {
    db.execute(
        "DELETE FROM samples WHERE process = ?1 AND time_ns IN (SELECT time_ns FROM
           (SELECT time_ns, row_number() OVER (ORDER BY time_ns DESC) AS place FROM samples WHERE process = ?1)
         WHERE place % 2 = 0)",
        params![number],
    )
}
