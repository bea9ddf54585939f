//! Faults as lines, for people and as JSON Lines.

use std::fmt::Write as _;

use serde::Serialize;

use super::{printable, table::thousands};
use crate::model::{Faults, Lost, TraceTotals, TracedFault, TracerCost, Writer, kind_name};

/// Columns of a time, of two ids with five digits each, and of a command name.
const TIME_WIDTH: usize = 10;
const ID_WIDTH: usize = 11;
const COMM_WIDTH: usize = 15;

/// Appends the names of the columns of [`trace_line`].
pub fn trace_header(text: &mut String, times: bool) {
    text.push_str("    TIME s         PID COMM            KIND   ");
    text.push_str(if times { "TOOK ns " } else { "" });
    text.push_str("ADDRESS      REGION+OFFSET                   WRITTEN BY\n");
}

/// Appends one fault as a line for people; `times`: with how long it took.
pub fn trace_line(text: &mut String, fault: &TracedFault, times: bool) {
    let (seconds, micros) = (fault.at_ns / 1_000_000_000, fault.at_ns / 1000 % 1_000_000);
    let begin = text.len();
    let _ = write!(text, "{seconds:3}.{micros:06} {:>ID_WIDTH$} ", Id(fault));
    // Two ids of seven digits take of the room that few names need.
    let excess = (text.len() - begin).saturating_sub(TIME_WIDTH + 1 + ID_WIDTH + 1);
    let comm_width = COMM_WIDTH.saturating_sub(excess);
    let _ = write!(text, "{:<comm_width$} {:<6} ", Plain(&fault.comm), kind_name(fault.kind));
    match fault.took_ns.filter(|_| times) {
        Some(ns) => _ = write!(text, "{ns:>7} "),
        None if times => text.push_str("      ? "),
        None => {}
    }
    let _ = write!(text, "{:<12x} ", fault.address);
    let begin = text.len();
    if let (Some(region), Some(offset)) = (&fault.region, fault.offset()) {
        let name = if region.name.is_empty() { "[anon]" } else { file_name(&region.name) };
        let _ = write!(text, "{}+{offset:#x}", Plain(name));
    } else {
        text.push('?');
    }
    if fault.pages > 1 {
        let _ = write!(text, " ({} pages)", fault.pages);
    }
    const REGION_WIDTH: usize = 31;
    let width = text[begin..].chars().count();
    text.extend(std::iter::repeat_n(' ', REGION_WIDTH.saturating_sub(width)));
    if let Some(function) = &fault.function {
        // By whom the kernel was called.
        let by = if fault.writer == Some(Writer::Kernel) { " kernel ← " } else { " " };
        // In a file without a name for it: [path+offset].
        let _ = match function.strip_prefix('[').filter(|path| path.starts_with('/')) {
            Some(path) => write!(text, "{by}[{}", Plain(file_name(path))),
            None => write!(text, "{by}{}", Plain(function)),
        };
    } else {
        text.truncate(text.trim_end().len());
    }
    text.push('\n');
}

/// The last part of a path; what is none stays.
fn file_name(path: &str) -> &str {
    path.strip_prefix('/').and_then(|rest| rest.rsplit('/').next()).unwrap_or(path)
}

/// `PID`, or `PID/TID` for another thread than the first.
struct Id<'a>(&'a TracedFault);

impl std::fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TracedFault { pid, tid, .. } = self.0;
        if pid == tid { pid.fmt(f) } else { f.pad(&format!("{pid}/{tid}")) }
    }
}

/// Text that others chose, fit to be shown.
struct Plain<'a>(&'a str);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&printable(self.0))
    }
}

/// Appends a line that tells of faults which could not be told.
pub fn trace_lost_line(text: &mut String, events: u64) {
    let _ = writeln!(text, "… {} events lost", thousands(events));
}

/// What a trace has come to, for people.
pub fn trace_summary(totals: &TraceTotals, lost: &Lost) -> String {
    let plural = |count: u64| if count == 1 { "event" } else { "events" };
    let shown = totals.shown();
    let mut text = format!("{} {} shown", thousands(shown), plural(shown));
    for (position, (name, faults)) in totals.shown.iter().enumerate() {
        let _ = write!(text, "{} {} {name}", if position == 0 { ":" } else { "," }, thousands(*faults));
    }
    if totals.filtered > 0 {
        let _ = write!(text, "; {} left out by the filters", thousands(totals.filtered));
    }
    match totals.lost {
        0 => text.push_str("; none lost"),
        lost => {
            let _ = write!(text, "; {} LOST: they came faster than they were written", thousands(lost));
        }
    }
    let others = [
        (lost.events.saturating_sub(totals.lost), "records of processes that were lost"),
        (lost.processes, "processes or threads not traced (--max-tasks follows more)"),
        (lost.regions, "events without a region"),
    ];
    for (count, words) in others.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, "; {words}: {}", thousands(count));
    }
    text.push('\n');
    text
}

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Fault {
        at_ns: u64,
        pid: u32,
        tid: u32,
        comm: &'a str,
        kind: &'static str,
        address: Hex,
        pages: u64,
        region: Option<RegionFields<'a>>,
        offset: Option<u64>,
        ip: Option<Hex>,
        function: Option<&'a str>,
        writer: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        took_ns: Option<Option<u64>>,
    },
    Lost {
        events: u64,
    },
    Summary {
        shown: u64,
        filtered: u64,
        lost_faults: u64,
        lost: &'a Lost,
        counted: &'a Faults,
        tracer: &'a TracerCost,
    },
}

#[derive(Serialize)]
struct RegionFields<'a> {
    start: Hex,
    end: Hex,
    perms: String,
    name: &'a str,
}

struct Hex(u64);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

fn append(bytes: &mut Vec<u8>, line: &Line) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *bytes, line)?;
    bytes.push(b'\n');
    Ok(())
}

/// Appends one fault as a line of JSON; `times`: with how long it took.
pub fn trace_json(bytes: &mut Vec<u8>, fault: &TracedFault, times: bool) -> serde_json::Result<()> {
    let line = Line::Fault {
        at_ns: fault.at_ns,
        pid: fault.pid,
        tid: fault.tid,
        comm: &fault.comm,
        kind: kind_name(fault.kind),
        address: Hex(fault.address),
        pages: fault.pages,
        region: fault.region.as_ref().map(|region| RegionFields {
            start: Hex(region.start),
            end: Hex(region.end),
            perms: region.perms.to_string(),
            name: &region.name,
        }),
        offset: fault.offset(),
        ip: fault.ip.map(Hex),
        function: fault.function.as_deref(),
        writer: fault.writer.map(|writer| match writer {
            Writer::User => "user",
            Writer::Kernel => "kernel",
        }),
        took_ns: times.then_some(fault.took_ns),
    };
    append(bytes, &line)
}

/// Appends a line of JSON that tells of faults which could not be told.
pub fn trace_lost_json(bytes: &mut Vec<u8>, events: u64) -> serde_json::Result<()> {
    append(bytes, &Line::Lost { events })
}

/// Appends what a trace has come to. `counted`: all faults of all processes, told or not.
pub fn trace_summary_json(
    bytes: &mut Vec<u8>,
    totals: &TraceTotals,
    lost: &Lost,
    counted: &Faults,
    tracer: &TracerCost,
) -> serde_json::Result<()> {
    let line = Line::Summary {
        shown: totals.shown(),
        filtered: totals.filtered,
        lost_faults: totals.lost,
        lost,
        counted,
        tracer,
    };
    append(bytes, &line)
}
