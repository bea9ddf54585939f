//! The report of a traced run, as its JSON contract (`cowtrace.report/1`) has it.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{CowTime, Faults, Folded, Forecast, ForkMoment, ProcessPages, Stacks};

/// Version of the report's JSON.
pub const REPORT_SCHEMA: &str = "cowtrace.report/1";

/// A name of its own, as serde would take a plain `&str` for a part of the text that it reads.
type SchemaName = &'static str;

/// Everything that was found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    #[serde(deserialize_with = "this_schema")]
    pub schema: SchemaName,
    /// The kernel that ran.
    pub kernel: KernelFacts,
    /// What counted.
    pub backend: BackendFacts,
    /// What was lost; all zero means that the counts are complete.
    pub lost: Lost,
    /// Length of the session, ns.
    pub duration_ns: u64,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Its exit status, 128+N for signal N; `null` if it still runs.
    pub exit_status: Option<i32>,
    /// False in a recording whose recorder ended early: all is as it was `duration_ns` after the start.
    #[serde(default = "yes")]
    pub complete: bool,
    /// Every process that was traced, in the order of their creation; without those in [`Report::folded`].
    pub processes: Vec<Process>,
    /// Every fork among them.
    pub forks: Vec<Fork>,
    /// Ended processes that there was no room for, and the forks that made them, as sums by name; by descending copies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folded: Vec<Folded>,
    /// Which code made the copies, if that was asked for.
    #[serde(flatten)]
    pub stacks: Option<Stacks>,
    /// What tracing cost user space.
    pub tracer: TracerCost,
}

/// What is known while a session goes on, of all that may have changed since the snapshot before.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The report, with those processes and forks alone.
    pub report: Report,
    /// Who they are.
    pub numbers: Numbers,
}

/// Session-wide numbers of the processes and forks of a report, in its order. They grow with the order of creation; a
/// fork has the number of the process that it made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of [`Report::processes`].
    pub processes: Vec<u64>,
    /// Of [`Report::forks`].
    pub forks: Vec<u64>,
}

/// The kernel, as a report names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFacts {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub arch: String,
    /// Bytes per page.
    pub page_size: u64,
}

/// The backend, as a report names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendFacts {
    /// fentry, kprobe or tracepoint.
    pub name: String,
    /// Copies that it cannot see.
    pub blind_to: Vec<String>,
    /// Why a kind is `null` in this report, a sentence each.
    pub unknown: Vec<String>,
}

/// What was lost on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Records that found no room in the ring buffer, and program runs that the kernel skipped.
    pub events: u64,
    /// Processes and threads that found no slot and were not counted.
    pub processes: u64,
    /// Faults that were counted, but not attributed to a mapping.
    pub regions: u64,
    /// Copies whose user stack could not be taken, or found no room.
    pub stacks: u64,
    /// Copies and replacements of pages that found no room to be counted page by page.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pages: u64,
}

impl Lost {
    /// Whether nothing was lost.
    pub fn is_none(&self) -> bool {
        *self == Lost::default()
    }
}

/// User-space cost of tracing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracerCost {
    /// CPU time of this process, from the start of the command to the report, ns.
    pub cpu_ns: u64,
    /// Largest resident set, kB.
    pub max_rss_kb: u64,
}

/// One traced process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Process id; may occur twice when it was reused.
    pub pid: u32,
    /// Process id in its own PID namespace (a container's), where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_pid: Option<u32>,
    /// Parent at creation.
    pub ppid: u32,
    /// Last command name.
    pub comm: String,
    /// Arguments of its last exec, or of the process that it was forked from.
    pub cmdline: Vec<String>,
    /// The process that forked it, `null` if that one was not traced.
    pub forked_from: Option<u32>,
    /// Creation, ns since the start of the session.
    pub start_ns: u64,
    /// End, ns since the start of the session; `null` if it still runs.
    pub end_ns: Option<u64>,
    /// Counts by kind.
    pub faults: Faults,
    /// The figure that equals taskstats' `wpcopy_count`.
    pub wpcopy: Option<u64>,
    /// Copies that came too late: another had changed the page meanwhile. They are in `wpcopy`, and in no kind.
    pub raced: Option<u64>,
    /// Mappings of huge pages that were split into mappings of small ones.
    pub thp_splits: Option<u64>,
    /// Bytes whose content was copied.
    pub copied_bytes: Option<u64>,
    /// Bytes of anonymous memory brought in by first touches.
    pub anon_bytes: u64,
    /// How long its copies took, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cow_ns: Option<CowTime>,
    /// Counts by mapping, by descending copies; empty with `--no-regions`.
    pub regions: Vec<RegionFaults>,
    /// Counts by page, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<ProcessPages>,
}

/// Counts of one mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RegionFaults {
    /// First address.
    #[serde(serialize_with = "hex", deserialize_with = "from_hex")]
    pub start: u64,
    /// One past the last address.
    #[serde(serialize_with = "hex", deserialize_with = "from_hex")]
    pub end: u64,
    /// As in `/proc/PID/maps`.
    pub perms: String,
    /// As in `/proc/PID/maps`; empty for unnamed anonymous memory.
    pub name: String,
    /// Counts by kind.
    pub faults: Faults,
}

pub(super) fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

pub(super) fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let value = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    value.ok_or_else(|| de::Error::custom(format!("{text:?} is no address")))
}

/// For fields that are absent where there is nothing to tell.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn this_schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SchemaName, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        REPORT_SCHEMA => Ok(REPORT_SCHEMA),
        other => Err(de::Error::custom(format!("its schema is {other:?}, not {REPORT_SCHEMA:?}"))),
    }
}

fn yes() -> bool {
    true
}

/// How a process was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForkKind {
    /// The child shares the parent's pages until they are written.
    Fork,
    /// The child uses the parent's memory until it execs.
    Vfork,
}

/// How the sharing of a fork ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForkEnd {
    /// The child became another program.
    Exec,
    /// The child exited.
    Exit,
    /// Not yet.
    Running,
}

/// One fork.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fork {
    /// The forking process.
    pub parent: u32,
    /// The new one.
    pub child: u32,
    /// ns since the start of the session.
    pub at_ns: u64,
    /// How.
    pub kind: ForkKind,
    /// Duration of the system call, up to the moment when the child is complete; `null` where that is not known. The tracepoint
    /// backend begins when the fork takes the first page for the child: copying the page tables.
    pub fork_ns: Option<u64>,
    /// Page tables of the child right after the fork, kB; `null` for vfork, which copies none.
    pub page_table_kb: Option<u64>,
    /// How it ended.
    pub ended_by: ForkEnd,
    /// From the fork to its end, ns; `null` while it runs.
    pub lifetime_ns: Option<u64>,
    /// Anonymous pages copied by the parent meanwhile, bytes.
    pub parent_copied_bytes: Option<u64>,
    /// Anonymous pages copied by the child until the end, bytes.
    pub child_copied_bytes: Option<u64>,
    /// Extra memory that the fork needed at most: what both copied, bytes.
    pub extra_peak_bytes: Option<u64>,
    /// Extra memory that it needs now, bytes: 0 when the sharing has ended, as one of two copies is given back then.
    pub extra_now_bytes: Option<u64>,
    /// How long the parent's copies took meanwhile, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_cow_ns: Option<CowTime>,
    /// The same of the child's, until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_cow_ns: Option<CowTime>,
    /// Where the copied bytes are, by mapping, by descending sum; empty with `--no-regions`. At the begin and the end of the
    /// sharing, a few pages may be missing or too many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<ForkRegion>,
    /// Which code made the heaviest of the copies, at most [`FORK_STACKS`], by descending sum; the rest is in other stacks or
    /// in none ([`Lost::stacks`]). `null`: stacks were not asked for, a vfork shares no pages, or there were too many forks
    /// and stacks to tell the parent's copies apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacks: Option<Vec<ForkStack>>,
    /// What was expected of it while it was in flight, if that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forecasts: Vec<Forecast>,
    /// How the copies grew, for forks that lasted a second or more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<ForkMoment>,
}

/// Stacks that are kept of a fork.
pub const FORK_STACKS: usize = 10;

/// Bytes that code copied because of a fork.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForkStack {
    /// Functions, as in [`super::Stack::frames`].
    pub frames: Vec<Arc<str>>,
    /// By the parent.
    pub parent_copied_bytes: u64,
    /// By the child.
    pub child_copied_bytes: u64,
}

impl ForkStack {
    /// Bytes copied by both.
    pub fn copied_bytes(&self) -> u64 {
        self.parent_copied_bytes + self.child_copied_bytes
    }
}

/// Bytes that were copied in one mapping because of a fork.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForkRegion {
    /// First address.
    #[serde(serialize_with = "hex", deserialize_with = "from_hex")]
    pub start: u64,
    /// As in `/proc/PID/maps`; empty for unnamed anonymous memory.
    pub name: String,
    /// By the parent.
    pub parent_copied_bytes: u64,
    /// By the child.
    pub child_copied_bytes: u64,
}

impl ForkRegion {
    /// Bytes copied by both.
    pub fn copied_bytes(&self) -> u64 {
        self.parent_copied_bytes + self.child_copied_bytes
    }
}
