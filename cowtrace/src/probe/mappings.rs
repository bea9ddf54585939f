//! Follows the mappings of all processes through perf's side-band records (MMAP2 and COMM).
//!
//! Works for processes that live a millisecond, which `/proc/PID/maps` does not. perf reports a mapping when it is
//! made, when `mprotect` changes it, and when the heap or a stack grows; it reports neither `munmap` nor `mremap`.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};
use perf_event::data::endian::Native;
use perf_event::data::parse::{ParseConfig, ParseResult, Parser};
use perf_event::data::{Comm, Lost, Mmap2, SampleId};
use perf_event::events::Software;
use perf_event::{Builder, Clock, Record, SampleFlag, Sampler};
use perf_event_open_sys::bindings;
use thiserror::Error;

use crate::model::{MapEvent, MapEventKind, Mapping, Perms};

/// Memory for the rings of all CPUs together, and the limits for one: 1 MiB holds about 9,000 records, or 300 execs.
const RINGS_TOTAL: usize = 32 << 20;
const RING_MAX: usize = 1 << 20;
const RING_MIN: usize = 64 << 10;
/// Names kept for reuse; most processes map the same few dozen files.
const NAMES_MAX: usize = 4_096;

const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";

/// Why mappings cannot be followed.
#[derive(Debug, Error)]
pub enum MappingError {
    /// The list of CPUs cannot be read.
    #[error("cannot read the online CPUs from {ONLINE_CPUS}: {0}; mount sysfs, or trace with --no-regions")]
    Cpus(#[source] io::Error),
    /// The list of CPUs is not what the kernel documents.
    #[error("{ONLINE_CPUS} reads {0:?}, which is no list of CPUs; trace with --no-regions")]
    CpuList(String),
    /// The kernel refuses the event.
    #[error(
        "perf_event_open of a dummy software event that follows mappings on CPU {cpu} failed: {source}; \
         run as root or with CAP_PERFMON (and CAP_IPC_LOCK), or trace with --no-regions"
    )]
    Open {
        /// The CPU.
        cpu: usize,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses the ring.
    #[error(
        "mmap of a {size}-byte perf ring on CPU {cpu} failed: {source}; \
         run as root or with CAP_IPC_LOCK, or trace with --no-regions"
    )]
    Ring {
        /// The CPU.
        cpu: usize,
        /// Bytes asked for.
        size: usize,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No CPU was left to follow.
    #[error("no CPU of {ONLINE_CPUS} could be followed: all went offline; try again")]
    NoCpu,
}

/// What one [`MappingFollower::drain`] met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainStats {
    /// Records that the kernel could not write because a ring was full, or that could not be parsed.
    pub lost: u64,
    /// All events up to this time (`CLOCK_MONOTONIC`) have been handed out; later ones come with the next drain.
    pub complete_until_ns: u64,
}

/// One dummy event and its ring per CPU.
pub struct MappingFollower {
    rings: Vec<Sampler>,
    names: Names,
    /// Events later than the moment at which a drain began: another CPU's ring, read before, may hold earlier ones.
    held_back: VecDeque<MapEvent>,
}

impl MappingFollower {
    /// Starts to follow all processes on all online CPUs.
    pub fn open() -> Result<MappingFollower, MappingError> {
        let cpus = online_cpus()?;
        let size = ring_size(cpus.len());
        let mut rings = Vec::with_capacity(cpus.len());
        for cpu in cpus {
            let counter = match event(cpu, size).build() {
                Ok(counter) => counter,
                // It went offline since the list was read.
                Err(source) if source.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(source) => return Err(MappingError::Open { cpu, source }),
            };
            rings.push(counter.sampled(size).map_err(|source| MappingError::Ring { cpu, size, source })?);
        }
        if rings.is_empty() {
            return Err(MappingError::NoCpu);
        }
        Ok(MappingFollower { rings, names: Names::default(), held_back: VecDeque::new() })
    }

    /// Appends what was recorded so far, ordered by time also across calls. Does not block.
    pub fn drain(&mut self, out: &mut Vec<MapEvent>) -> DrainStats {
        let complete_until_ns = monotonic_ns();
        let mut lost = 0;
        let mut events = Vec::from(std::mem::take(&mut self.held_back));
        for ring in &mut self.rings {
            // One round of a ring at most, lest a busy CPU keeps this loop going.
            let mut budget = RING_MAX;
            let config = ring.as_counter().config().clone();
            while let Some(record) = ring.next_record() {
                budget = budget.saturating_sub(record.len());
                match parse(&record, &config, &mut self.names) {
                    Ok(Parsed::Event(event)) => events.push(event),
                    Ok(Parsed::Lost(records)) => lost += records,
                    Ok(Parsed::Other) => {}
                    Err(error) => {
                        tracing::debug!(%error, kind = record.ty(), "a perf record cannot be parsed");
                        lost += 1;
                    }
                }
                drop(record);
                if budget == 0 {
                    break;
                }
            }
        }
        // Stable: records of one CPU with equal times stay in order.
        events.sort_by_key(|event| event.at_ns);
        let ready = events.partition_point(|event| event.at_ns <= complete_until_ns);
        self.held_back = events.split_off(ready).into();
        out.append(&mut events);
        DrainStats { lost, complete_until_ns }
    }

    /// Descriptors that become readable when a ring is a quarter full.
    pub fn poll_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().map(|ring| {
            // SAFETY: the descriptor is open as long as the ring, which is borrowed as long as the result.
            unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) }
        })
    }
}

/// The dummy event: counts nothing, and makes the kernel write side-band records.
fn event(cpu: usize, ring_size: usize) -> Builder<'static> {
    let mut builder = Builder::new(Software::DUMMY);
    builder
        .any_pid()
        .one_cpu(cpu)
        // `mmap` alone reports executable mappings, `mmap_data` the others.
        .mmap(true)
        .mmap_data(true)
        .mmap2(true)
        .comm(true)
        .comm_exec(true)
        .sample(SampleFlag::TID | SampleFlag::TIME)
        .sample_id_all(true)
        .clockid(Clock::MONOTONIC)
        .wakeup_watermark(ring_size / 4)
        .enabled(true);
    builder
}

enum Parsed {
    Event(MapEvent),
    Lost(u64),
    Other,
}

fn parse(record: &Record<'_>, config: &ParseConfig<Native>, names: &mut Names) -> ParseResult<Parsed> {
    let kind = record.ty();
    // Of the COMM records only those of an exec matter; threads that name themselves write many others.
    let exec = u32::from(record.misc()) & bindings::PERF_RECORD_MISC_COMM_EXEC != 0;
    let wanted = match kind {
        bindings::PERF_RECORD_COMM => exec,
        bindings::PERF_RECORD_MMAP2 | bindings::PERF_RECORD_LOST => true,
        _ => false,
    };
    if !wanted {
        return Ok(Parsed::Other);
    }
    let bytes = record.to_contiguous();
    // The sample id (who and when) is the record's tail.
    let split = bytes.len().saturating_sub(SampleId::estimate_len(config));
    let (body, tail) = bytes.split_at(split);
    let mut body = Parser::new(body, config.clone());
    if kind == bindings::PERF_RECORD_LOST {
        return Ok(Parsed::Lost(body.parse::<Lost>()?.lost));
    }
    let sample: SampleId = Parser::new(tail, config.clone()).parse()?;
    let at_ns = sample.time().unwrap_or_default();
    let (pid, kind) = if kind == bindings::PERF_RECORD_COMM {
        (body.parse::<Comm>()?.pid, MapEventKind::Exec)
    } else {
        let record: Mmap2 = body.parse()?;
        (record.pid, MapEventKind::Map(mapping(&record, names)))
    };
    Ok(Parsed::Event(MapEvent { at_ns, pid, kind }))
}

fn mapping(record: &Mmap2<'_>, names: &mut Names) -> Mapping {
    let has = |bit: i32| record.prot & bit as u32 != 0;
    let perms = Perms {
        read: has(libc::PROT_READ),
        write: has(libc::PROT_WRITE),
        execute: has(libc::PROT_EXEC),
        shared: record.flags & libc::MAP_SHARED as u32 != 0,
    };
    let name = names.spelled_as_in_maps(&record.filename);
    // Without a file the kernel's page offset is the address or worse; /proc/PID/maps shows 0.
    let offset = if name.starts_with('/') { record.pgoff } else { 0 };
    Mapping { start: record.addr, end: record.addr.saturating_add(record.len), perms, offset, name }
}

/// File names, each held once: a machine's processes map the same libraries over and over.
#[derive(Default)]
struct Names {
    known: HashMap<Box<[u8]>, Arc<str>>,
    anonymous: Arc<str>,
}

impl Names {
    /// The name as `/proc/PID/maps` would show it.
    fn spelled_as_in_maps(&mut self, name: &[u8]) -> Arc<str> {
        if name == b"//anon" {
            return Arc::clone(&self.anonymous);
        }
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        let spelled: Arc<str> = String::from_utf8_lossy(name).replace('\n', "\\012").into();
        if self.known.len() >= NAMES_MAX {
            self.known.clear();
        }
        self.known.insert(name.into(), Arc::clone(&spelled));
        spelled
    }
}

fn monotonic_ns() -> u64 {
    // This clock cannot fail; 0 would only hold events back until the next drain.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// An equal share for each CPU, as a power of two because the kernel wants one.
fn ring_size(cpus: usize) -> usize {
    let share = RINGS_TOTAL / cpus.max(1);
    let power = share.checked_next_power_of_two().unwrap_or(RING_MAX);
    (if power > share { power / 2 } else { power }).clamp(RING_MIN, RING_MAX)
}

fn online_cpus() -> Result<Vec<usize>, MappingError> {
    let text = std::fs::read_to_string(ONLINE_CPUS).map_err(MappingError::Cpus)?;
    parse_cpu_list(text.trim()).ok_or_else(|| MappingError::CpuList(text.trim().to_owned()))
}

/// Reads the kernel's spelling of CPU sets, for example `0-3,5`.
fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    (!cpus.is_empty()).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(parse_cpu_list(""), None);
        assert_eq!(parse_cpu_list("0-x"), None);
    }

    #[test]
    fn rings_share_a_bounded_amount_of_memory() {
        assert_eq!(ring_size(2), RING_MAX);
        assert_eq!(ring_size(48), 512 << 10);
        assert_eq!(ring_size(10_000), RING_MIN);
    }

    #[test]
    fn names_are_spelled_as_in_proc_maps() {
        let mut names = Names::default();
        assert_eq!(&*names.spelled_as_in_maps(b"//anon"), "");
        assert_eq!(&*names.spelled_as_in_maps(b"[heap]"), "[heap]");
        assert_eq!(&*names.spelled_as_in_maps(b"/a\nb"), "/a\\012b");
        let first = names.spelled_as_in_maps(b"/usr/bin/true");
        assert!(Arc::ptr_eq(&first, &names.spelled_as_in_maps(b"/usr/bin/true")));
    }
}
