//! Writing: one transaction per snapshot, which holds only what has changed since the one before.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, Result, Transaction, TransactionBehavior, params_from_iter, types::Value};

use super::{
    samples::Samples,
    schema::{APPLICATION_ID, VERSION, counts, definition},
};
use crate::model::{
    Fork, ForkEnd, ForkKind, ForkMoment, ForkRegion, ForkStack, Process, RegionFaults, Report, Snapshot,
    StackFrames, Stacks,
};

/// How long a reader may hold the file before a snapshot is left out. Tests have less.
pub(super) const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// Hashes that are kept of what has ended.
const MOST_ENDED: usize = 32_768;

/// What recording costs, for the table `session`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Time between two snapshots, ns.
    pub(super) interval_ns: u64,
    /// Snapshots so far.
    pub(super) snapshots: u64,
    /// CPU time that all of them took, ns.
    pub(super) total_ns: u64,
    /// CPU time that the longest took, ns.
    pub(super) longest_ns: u64,
}

/// What the file holds, as far as it is needed to find out what has changed.
#[derive(Clone, Debug, Default)]
struct Written {
    processes: Hashes,
    forks: Hashes,
    stacks: Option<u64>,
    samples: Samples,
}

/// What was written of processes, or of forks: hashes by number.
#[derive(Clone, Debug, Default)]
struct Hashes {
    living: HashMap<u64, u64>,
    /// Without the oldest: what has ended comes once more at most, with the whole report, and is then written again.
    ended: HashMap<u64, u64>,
}

/// A recording that is being written.
pub(super) struct Writer {
    db: Connection,
    begin_unix_ns: Option<u64>,
    written: Written,
}

impl Writer {
    /// Makes the tables in an empty database.
    pub(super) fn new(db: Connection) -> Result<Writer> {
        let mut writer = Self::of_tables(db)?;
        let tables = writer.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tables.pragma_update(None, "application_id", APPLICATION_ID)?;
        tables.pragma_update(None, "user_version", VERSION)?;
        tables.execute_batch(&definition())?;
        tables.commit()?;
        Ok(writer)
    }

    /// Fills tables that are empty. The journal is removed with each commit, so that one file is all; each commit is on the
    /// disk when it returns.
    pub(super) fn of_tables(db: Connection) -> Result<Writer> {
        db.busy_timeout(PATIENCE)?;
        db.pragma_update(None, "journal_mode", "DELETE")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(Writer { db, begin_unix_ns: None, written: Written::default() })
    }

    /// Commits a snapshot. After an error the file, and what is known of it, is as before.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot, cost: &Cost) -> Result<()> {
        let report = &snapshot.report;
        let begin_unix_ns = *self.begin_unix_ns.get_or_insert_with(|| began(report.duration_ns));
        let mut next = self.written.clone();
        let db = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&db, "session", session(report, cost, begin_unix_ns))?;
        for (&number, process) in snapshot.numbers.processes.iter().zip(&report.processes) {
            if next.processes.replace(number, process, process.end_ns.is_some()) {
                insert(&db, "processes", process_row(number, process))?;
                regions(&db, number, &process.regions)?;
                next.samples.add(&db, number, process, report.duration_ns)?;
            }
        }
        for (&number, fork) in snapshot.numbers.forks.iter().zip(&report.forks) {
            if next.forks.replace(number, fork, fork.ended_by != ForkEnd::Running) {
                insert(&db, "forks", fork_row(number, fork))?;
                fork_regions(&db, number, &fork.regions)?;
                if report.stacks.is_some() && fork.kind == ForkKind::Fork {
                    fork_stacks(&db, number, fork.stacks.as_deref())?;
                }
                series(&db, number, &fork.series)?;
            }
        }
        if let Some(all) = &report.stacks
            && replace(&mut next.stacks, all)
        {
            stacks(&db, all)?;
        }
        next.samples.end_snapshot(report.duration_ns);
        db.commit()?;
        self.written = next;
        Ok(())
    }

    /// The database, to look at.
    #[cfg(test)]
    pub(super) fn db(&self) -> &Connection {
        &self.db
    }
}

/// The wall clock's time at the start of the session.
fn began(duration_ns: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default().saturating_sub(duration_ns)
}

impl Hashes {
    /// Whether this differs from what was written with that number; it takes its place.
    fn replace<T: Hash>(&mut self, number: u64, value: &T, has_ended: bool) -> bool {
        let hash = hash_of(value);
        let mut before = self.living.remove(&number);
        if has_ended {
            if self.ended.len() >= MOST_ENDED {
                self.ended.clear();
            }
            before = self.ended.insert(number, hash).or(before);
        } else {
            self.living.insert(number, hash);
        }
        before != Some(hash)
    }
}

/// The same for the only one of its kind.
fn replace<T: Hash>(written: &mut Option<u64>, value: &T) -> bool {
    let hash = hash_of(value);
    written.replace(hash) != Some(hash)
}

fn hash_of<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn insert(db: &Transaction<'_>, table: &str, row: Vec<Value>) -> Result<()> {
    let places = vec!["?"; row.len()].join(", ");
    let mut statement = db.prepare_cached(&format!("INSERT OR REPLACE INTO {table} VALUES ({places})"))?;
    statement.execute(params_from_iter(row))?;
    Ok(())
}

fn number(value: u64) -> Value {
    // No count comes near this bound.
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn optional(value: Option<u64>) -> Value {
    value.map_or(Value::Null, number)
}

/// Kernel addresses (`[vsyscall]`) are negative numbers: SQLite has none without a sign.
fn address(value: u64) -> Value {
    Value::Integer(value.cast_signed())
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn list(words: &[String]) -> Value {
    Value::Text(serde_json::Value::from(words).to_string())
}

fn session(report: &Report, cost: &Cost, begin_unix_ns: u64) -> Vec<Value> {
    let Report { kernel, backend, lost, tracer, .. } = report;
    vec![
        number(1),
        text(report.schema),
        text(concat!("cowtrace ", env!("CARGO_PKG_VERSION"))),
        text(&kernel.release),
        text(&kernel.arch),
        number(kernel.page_size),
        text(&backend.name),
        list(&backend.blind_to),
        list(&backend.unknown),
        list(&report.command),
        number(begin_unix_ns),
        number(report.duration_ns),
        report.exit_status.map_or(Value::Null, Value::from),
        Value::from(report.complete),
        number(lost.events),
        number(lost.processes),
        number(lost.regions),
        number(lost.stacks),
        number(tracer.cpu_ns),
        number(tracer.max_rss_kb),
        number(cost.interval_ns),
        number(cost.snapshots),
        number(cost.total_ns),
        number(cost.longest_ns),
    ]
}

fn process_row(id: u64, process: &Process) -> Vec<Value> {
    let mut row = vec![
        number(id),
        Value::from(process.pid),
        process.ns_pid.map_or(Value::Null, Value::from),
        Value::from(process.ppid),
        text(&process.comm),
        list(&process.cmdline),
        process.forked_from.map_or(Value::Null, Value::from),
        number(process.start_ns),
        optional(process.end_ns),
    ];
    row.extend(counts(&process.faults).map(optional));
    row.extend([process.wpcopy, process.raced, process.thp_splits, process.copied_bytes].map(optional));
    row.push(number(process.anon_bytes));
    row
}

fn regions(db: &Transaction<'_>, process: u64, regions: &[RegionFaults]) -> Result<()> {
    for (position, region) in regions.iter().enumerate() {
        let mut row = vec![
            number(process),
            number(position as u64),
            address(region.start),
            address(region.end),
            text(&region.perms),
            text(&region.name),
        ];
        row.extend(counts(&region.faults).map(optional));
        insert(db, "regions", row)?;
    }
    // What a snapshot attributes before its time may be found to belong elsewhere.
    let mut rest = db.prepare_cached("DELETE FROM regions WHERE process = ?1 AND position >= ?2")?;
    rest.execute([process, regions.len() as u64])?;
    Ok(())
}

fn fork_row(id: u64, fork: &Fork) -> Vec<Value> {
    let kind = match fork.kind {
        ForkKind::Fork => "fork",
        ForkKind::Vfork => "vfork",
    };
    let ended_by = match fork.ended_by {
        ForkEnd::Exec => "exec",
        ForkEnd::Exit => "exit",
        ForkEnd::Running => "running",
    };
    vec![
        number(id),
        Value::from(fork.parent),
        Value::from(fork.child),
        number(fork.at_ns),
        text(kind),
        optional(fork.fork_ns),
        optional(fork.page_table_kb),
        text(ended_by),
        optional(fork.lifetime_ns),
        optional(fork.parent_copied_bytes),
        optional(fork.child_copied_bytes),
        optional(fork.extra_peak_bytes),
        optional(fork.extra_now_bytes),
    ]
}

fn fork_regions(db: &Transaction<'_>, fork: u64, regions: &[ForkRegion]) -> Result<()> {
    db.prepare_cached("DELETE FROM fork_regions WHERE fork = ?1")?.execute([fork])?;
    for (position, region) in regions.iter().enumerate() {
        let row = vec![
            number(fork),
            number(position as u64),
            address(region.start),
            text(&region.name),
            number(region.parent_copied_bytes),
            number(region.child_copied_bytes),
        ];
        insert(db, "fork_regions", row)?;
    }
    Ok(())
}

/// A row without frames stands for stacks that are not known.
fn fork_stacks(db: &Transaction<'_>, fork: u64, stacks: Option<&[ForkStack]>) -> Result<()> {
    db.prepare_cached("DELETE FROM fork_stacks WHERE fork = ?1")?.execute([fork])?;
    let Some(stacks) = stacks else {
        let row = vec![number(fork), number(0), Value::Null, Value::Null, Value::Null];
        return insert(db, "fork_stacks", row);
    };
    for (position, stack) in stacks.iter().enumerate() {
        let row = vec![
            number(fork),
            number(position as u64),
            frames(&stack.frames),
            number(stack.parent_copied_bytes),
            number(stack.child_copied_bytes),
        ];
        insert(db, "fork_stacks", row)?;
    }
    Ok(())
}

fn frames(names: &[Arc<str>]) -> Value {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    Value::Text(serde_json::Value::from(names).to_string())
}

/// The moments of a fork, which is thinned out as it goes on.
fn series(db: &Transaction<'_>, fork: u64, moments: &[ForkMoment]) -> Result<()> {
    db.prepare_cached("DELETE FROM fork_series WHERE fork = ?1")?.execute([fork])?;
    for moment in moments {
        let ForkMoment { at_ns, parent_copied_bytes, child_copied_bytes } = *moment;
        let row = [fork, at_ns, parent_copied_bytes, child_copied_bytes].map(number);
        insert(db, "fork_series", row.to_vec())?;
    }
    Ok(())
}

/// All of them: their order, and the names of their functions, may change while the session goes on.
fn stacks(db: &Transaction<'_>, all: &Stacks) -> Result<()> {
    db.prepare_cached("DELETE FROM stacks")?.execute([])?;
    for (index, stack) in all.stacks.iter().enumerate() {
        let row = vec![
            number(index as u64),
            Value::from(stack.pid),
            text(&stack.comm),
            text(stack.kind.word()),
            number(stack.count),
            frames(&stack.frames),
        ];
        insert(db, "stacks", row)?;
    }
    let StackFrames { frames, unresolved, pages, pages_of_short_stacks, pages_of_cut_stacks } =
        all.stack_frames;
    let row = [1, frames, unresolved, pages, pages_of_short_stacks, pages_of_cut_stacks];
    insert(db, "stack_frames", row.map(number).to_vec())
}
