//! The tables of a recording; docs/recording.md tells them to users.

use crate::model::Faults;

/// `PRAGMA user_version`: the format of the tables.
pub(super) const VERSION: i64 = 3;
/// The first one that has the tables `stacks`, `stack_frames` and `fork_regions`.
pub(super) const WITH_STACKS: i64 = 2;
/// The first one that has the table `fork_stacks`.
pub(super) const WITH_FORK_STACKS: i64 = 3;
/// `PRAGMA application_id`: "CowT", for file(1) and for us.
pub(super) const APPLICATION_ID: i32 = 0x436f_7754;

/// Columns of the counts, in the order of [`counts`].
pub(super) const KINDS: [&str; 10] =
    ["copy", "zero", "file", "ksm", "hugetlb", "pinned", "reuse", "shared", "anon", "denied"];

/// Everything that a new file gets, but the version.
pub(super) fn definition() -> String {
    let kinds = KINDS.map(|kind| format!("{kind} INTEGER")).join(", ");
    format!(
        "CREATE TABLE session (
  id INTEGER PRIMARY KEY CHECK (id = 1), report_schema TEXT NOT NULL, recorded_by TEXT NOT NULL,
  kernel_release TEXT NOT NULL, kernel_arch TEXT NOT NULL, page_size INTEGER NOT NULL,
  backend TEXT NOT NULL, blind_to TEXT NOT NULL, unknown TEXT NOT NULL,
  command TEXT NOT NULL, begin_unix_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL, exit_status INTEGER,
  complete INTEGER NOT NULL,
  lost_events INTEGER NOT NULL, lost_processes INTEGER NOT NULL, lost_regions INTEGER NOT NULL,
  lost_stacks INTEGER NOT NULL,
  tracer_cpu_ns INTEGER NOT NULL, tracer_max_rss_kb INTEGER NOT NULL,
  interval_ns INTEGER NOT NULL, snapshots INTEGER NOT NULL, snapshots_ns INTEGER NOT NULL,
  longest_snapshot_ns INTEGER NOT NULL);
CREATE TABLE processes (
  id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, ns_pid INTEGER, ppid INTEGER NOT NULL, comm TEXT NOT NULL, cmdline TEXT NOT NULL,
  forked_from INTEGER, start_ns INTEGER NOT NULL, end_ns INTEGER, {kinds}, wpcopy INTEGER, raced INTEGER,
  thp_splits INTEGER, copied_bytes INTEGER, anon_bytes INTEGER NOT NULL);
CREATE TABLE regions (
  process INTEGER NOT NULL REFERENCES processes (id), position INTEGER NOT NULL,
  start_address INTEGER NOT NULL, end_address INTEGER NOT NULL, perms TEXT NOT NULL, name TEXT NOT NULL, {kinds},
  PRIMARY KEY (process, position)) WITHOUT ROWID;
CREATE TABLE forks (
  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, child INTEGER NOT NULL, at_ns INTEGER NOT NULL,
  kind TEXT NOT NULL, fork_ns INTEGER, page_table_kb INTEGER, ended_by TEXT NOT NULL, lifetime_ns INTEGER,
  parent_copied_bytes INTEGER, child_copied_bytes INTEGER, extra_peak_bytes INTEGER, extra_now_bytes INTEGER);
CREATE TABLE fork_regions (
  fork INTEGER NOT NULL REFERENCES forks (id), position INTEGER NOT NULL, start_address INTEGER NOT NULL,
  name TEXT NOT NULL, parent_copied_bytes INTEGER NOT NULL, child_copied_bytes INTEGER NOT NULL,
  PRIMARY KEY (fork, position)) WITHOUT ROWID;
CREATE TABLE fork_stacks (
  fork INTEGER NOT NULL REFERENCES forks (id), position INTEGER NOT NULL, frames TEXT,
  parent_copied_bytes INTEGER, child_copied_bytes INTEGER, PRIMARY KEY (fork, position)) WITHOUT ROWID;
CREATE TABLE fork_series (
  fork INTEGER NOT NULL REFERENCES forks (id), at_ns INTEGER NOT NULL, parent_copied_bytes INTEGER NOT NULL,
  child_copied_bytes INTEGER NOT NULL, PRIMARY KEY (fork, at_ns)) WITHOUT ROWID;
CREATE TABLE stacks (
  id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, comm TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL,
  frames TEXT NOT NULL);
CREATE TABLE stack_frames (
  id INTEGER PRIMARY KEY CHECK (id = 1), frames INTEGER NOT NULL, unresolved INTEGER NOT NULL, pages INTEGER NOT NULL,
  pages_of_short_stacks INTEGER NOT NULL, pages_of_cut_stacks INTEGER NOT NULL);
CREATE TABLE samples (
  process INTEGER NOT NULL REFERENCES processes (id), time_ns INTEGER NOT NULL, {kinds}, wpcopy INTEGER,
  PRIMARY KEY (process, time_ns)) WITHOUT ROWID;
CREATE VIEW copies_per_second AS
  SELECT process, time_ns, (copy - copy_before) * 1e9 / (time_ns - time_before) AS copies_per_second
  FROM (SELECT process, time_ns, samples.copy AS copy, lag(samples.copy, 1, 0) OVER earlier AS copy_before,
      lag(time_ns, 1, start_ns) OVER earlier AS time_before
    FROM samples JOIN processes ON processes.id = process
    WINDOW earlier AS (PARTITION BY process ORDER BY time_ns))
  WHERE time_ns > time_before;"
    )
}

/// The counts as [`KINDS`] orders them.
pub(super) fn counts(faults: &Faults) -> [Option<u64>; KINDS.len()] {
    let Faults { copy, zero, file, ksm, hugetlb, pinned, reuse, shared, anon, denied } = *faults;
    [copy, zero, file, ksm, hugetlb, pinned, reuse, shared, anon, denied]
}

/// The reverse of [`counts`].
pub(super) fn faults(counts: [Option<u64>; KINDS.len()]) -> Faults {
    let [copy, zero, file, ksm, hugetlb, pinned, reuse, shared, anon, denied] = counts;
    Faults { copy, zero, file, ksm, hugetlb, pinned, reuse, shared, anon, denied }
}
