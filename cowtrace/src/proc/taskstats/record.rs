//! `struct taskstats`: what a thread has done, in the layout of each of its versions.

use std::io;

use neli::{
    genl::{GenlAttrHandle, Nlattr},
    types::Buffer,
};

use super::netlink::{Message, not_understood};

// From linux/taskstats.h.
const TYPE_PID: u16 = 1;
const TYPE_TGID: u16 = 2;
const TYPE_STATS: u16 = 3;
const TYPE_AGGR_PID: u16 = 4;
const TYPE_AGGR_TGID: u16 = 5;
/// `AGROUP` of `ac_flag`: the last thread of its process.
const LAST_OF_PROCESS: u8 = 0x20;

// Offsets in the struct. It is an interface that only grows at its end.
const VERSION: usize = 0;
const FLAG: usize = 8;
const COMM: usize = 80;
const COMM_LEN: usize = 32;
const PID: usize = 128;
const PPID: usize = 132;
const ELAPSED_US: usize = 144;
const MINFLT: usize = 168;
const MAJFLT: usize = 176;
const TGID: usize = 368;
const PROCESS_ELAPSED_US: usize = 376;
const WPCOPY_COUNT: usize = 400;

/// The first version with a thread's process id (Linux 5.18).
const WITH_PROCESS: u16 = 12;
/// The first version with `wpcopy_count` (Linux 5.19).
const WITH_WPCOPY: u16 = 13;
/// Had fields added in the middle, which was taken back one version later.
const MISLAID: u16 = 15;

/// What a version of the struct has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStatsLayout {
    /// The version.
    pub version: u16,
    /// `wpcopy_count`.
    pub wpcopy: bool,
    /// Which process a thread is of; without it only the first thread of each process is known.
    pub process: bool,
    /// The fields are where this program looks for them.
    pub in_place: bool,
}

impl TaskStatsLayout {
    /// The layout of this version.
    pub(super) fn of_version(version: u16) -> TaskStatsLayout {
        let in_place = version != MISLAID;
        TaskStatsLayout {
            version,
            wpcopy: in_place && version >= WITH_WPCOPY,
            process: in_place && version >= WITH_PROCESS,
            in_place,
        }
    }
}

/// Figures of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    pub version: u16,
    pub tid: u32,
    /// `None` if this kernel does not tell.
    pub pid: Option<u32>,
    pub ppid: u32,
    pub comm: String,
    pub last_of_process: bool,
    pub minflt: u64,
    pub majflt: u64,
    /// `None` if this kernel does not have it.
    pub wpcopy: Option<u64>,
    /// Since the start of its process; of the thread itself where the former is not told.
    pub elapsed_us: u64,
}

impl Stats {
    fn parse(bytes: &[u8]) -> io::Result<Stats> {
        let layout = TaskStatsLayout::of_version(u16::from_ne_bytes(at(bytes, VERSION)?));
        if !layout.in_place {
            return Ok(Stats { version: layout.version, ..Stats::default() });
        }
        let u32_at = |place| Ok::<u32, io::Error>(u32::from_ne_bytes(at(bytes, place)?));
        let u64_at = |place| Ok::<u64, io::Error>(u64::from_ne_bytes(at(bytes, place)?));
        let comm = at::<COMM_LEN>(bytes, COMM)?;
        let comm = comm.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(Stats {
            version: layout.version,
            tid: u32_at(PID)?,
            pid: layout.process.then(|| u32_at(TGID)).transpose()?,
            ppid: u32_at(PPID)?,
            comm: String::from_utf8_lossy(comm).into_owned(),
            last_of_process: layout.process && at::<1>(bytes, FLAG)?[0] & LAST_OF_PROCESS != 0,
            minflt: u64_at(MINFLT)?,
            majflt: u64_at(MAJFLT)?,
            wpcopy: layout.wpcopy.then(|| u64_at(WPCOPY_COUNT)).transpose()?,
            elapsed_us: u64_at(if layout.process { PROCESS_ELAPSED_US } else { ELAPSED_US })?,
        })
    }
}

fn at<const LENGTH: usize>(bytes: &[u8], place: usize) -> io::Result<[u8; LENGTH]> {
    let field = bytes.get(place..).and_then(<[u8]>::first_chunk);
    field.copied().ok_or_else(|| not_understood("figures that are too short for their version"))
}

/// The figures of a thread in a message about it.
pub(super) fn stats_of(message: &Message) -> io::Result<Stats> {
    exit_of(message)?.map(|exit| exit.stats).ok_or_else(|| not_understood("a message without figures"))
}

/// A message about a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadExit {
    pub stats: Stats,
    /// With the last thread of a process of several come sums for the whole process: then, its id.
    pub whole_process: Option<u32>,
}

/// The thread that a message is about; `None` if it is about none.
pub(super) fn exit_of(message: &Message) -> io::Result<Option<ThreadExit>> {
    let Some(body) = message.get_payload() else { return Ok(None) };
    let attributes = body.attrs().get_attr_handle();
    let Some(thread) = attributes.get_attribute(TYPE_AGGR_PID) else { return Ok(None) };
    let thread: GenlAttrHandle<'_, u16> = thread.get_attr_handle().map_err(not_understood)?;
    let number = |attribute: &Nlattr<u16, Buffer>| -> io::Result<u32> {
        Ok(u32::from_ne_bytes(at(attribute.nla_payload().as_ref(), 0)?))
    };
    let tid = thread.get_attribute(TYPE_PID).map(number).transpose()?;
    let stats = thread.get_attribute(TYPE_STATS).ok_or_else(|| not_understood("no figures"))?;
    let stats = Stats::parse(stats.nla_payload().as_ref())?;
    if TaskStatsLayout::of_version(stats.version).in_place && tid != Some(stats.tid) {
        let (version, said) = (stats.version, stats.tid);
        return Err(not_understood(format!("thread {tid:?} is {said} in figures of version {version}")));
    }
    let process = attributes.get_attribute(TYPE_AGGR_TGID).map(|process| -> io::Result<u32> {
        let process: GenlAttrHandle<'_, u16> = process.get_attr_handle().map_err(not_understood)?;
        number(process.get_attribute(TYPE_TGID).ok_or_else(|| not_understood("no process"))?)
    });
    Ok(Some(ThreadExit { stats, whole_process: process.transpose()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each figure is its own offset.
    fn bytes(version: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[..2].copy_from_slice(&version.to_ne_bytes());
        bytes[COMM..COMM + 2].copy_from_slice(b"sh");
        bytes[FLAG] = LAST_OF_PROCESS;
        for place in [PID, PPID, TGID] {
            if let Some(field) = bytes.get_mut(place..place + 4) {
                field.copy_from_slice(&(place as u32).to_ne_bytes());
            }
        }
        for place in [ELAPSED_US, MINFLT, MAJFLT, PROCESS_ELAPSED_US, WPCOPY_COUNT] {
            if let Some(field) = bytes.get_mut(place..place + 8) {
                field.copy_from_slice(&(place as u64).to_ne_bytes());
            }
        }
        bytes
    }

    #[test]
    fn each_version_gives_what_it_has() {
        let read = |version, length| Stats::parse(&bytes(version, length)).unwrap();
        // Linux 5.10, 5.19, 6.18.
        let (old, first, new) = (read(10, 344), read(13, 416), read(16, 560));
        assert_eq!((old.tid, old.pid, old.wpcopy, old.minflt, old.elapsed_us), (128, None, None, 168, 144));
        assert!(!old.last_of_process, "the flag is of a later version");
        for stats in [first, new] {
            assert_eq!((stats.pid, stats.wpcopy, stats.elapsed_us), (Some(368), Some(400), 376));
            assert_eq!((stats.comm.as_str(), stats.ppid, stats.majflt), ("sh", 132, 176));
            assert!(stats.last_of_process);
        }
    }

    #[test]
    fn the_version_with_fields_out_of_place_gives_nothing() {
        assert_eq!(Stats::parse(&bytes(15, 560)).unwrap(), Stats { version: 15, ..Stats::default() });
        assert!(!TaskStatsLayout::of_version(15).wpcopy && TaskStatsLayout::of_version(16).wpcopy);
    }

    #[test]
    fn figures_that_are_too_short_are_an_error() {
        assert!(Stats::parse(&bytes(13, 402)).is_err());
        assert!(Stats::parse(&[1]).is_err());
    }
}
