//! The kernel's own figures of every thread that exits: generic netlink family TASKSTATS.
//!
//! The oracle of the live tests. `wpcopy_count` is the kernel's count of entries into the write-protect copy path, since
//! Linux 5.19. Before, there are page faults only, and each thread is told by itself.

use std::{
    io,
    mem::offset_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::kernel::{DELAY_ACCOUNTING, counts_copies};

/// Receive buffer: an exit takes some 2.5 kB of it, and it must hold those of a whole run.
static BUFFER_BYTES: libc::c_int = 512 << 20;

// From linux/netlink.h, linux/genetlink.h and linux/taskstats.h.
const NETLINK_GENERIC: i32 = 16;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const TASKSTATS_CMD_GET: u8 = 1;
const TASKSTATS_CMD_ATTR_REGISTER_CPUMASK: u16 = 3;
const TASKSTATS_CMD_ATTR_DEREGISTER_CPUMASK: u16 = 4;
const TASKSTATS_TYPE_PID: u16 = 1;
const TASKSTATS_TYPE_STATS: u16 = 3;
const TASKSTATS_TYPE_AGGR_PID: u16 = 4;
const ATTR_TYPE_MASK: u16 = 0x3fff;
const NLMSG_HEADER: usize = 16;
const GENL_HEADER: usize = 4;
const ATTR_HEADER: usize = 4;

/// `AGROUP`: the last thread of its process.
const LAST_OF_GROUP: u8 = 0x20;

/// `struct taskstats` up to its version 13; later versions add to its end.
#[repr(C)]
#[derive(Clone, Copy)]
struct TaskStats {
    version: u16,
    ac_exitcode: u32,
    ac_flag: u8,
    ac_nice: u8,
    delays: [u64; 6],
    cpu_run_real_total: u64,
    cpu_run_virtual_total: u64,
    ac_comm: [u8; 32],
    ac_sched: u64,
    ac_uid: u32,
    ac_gid: u32,
    ac_pid: u32,
    ac_ppid: u32,
    ac_btime: u32,
    ac_etime: u64,
    ac_utime: u64,
    ac_stime: u64,
    ac_minflt: u64,
    ac_majflt: u64,
    coremem: u64,
    virtmem: u64,
    hiwater_rss: u64,
    hiwater_vm: u64,
    io: [u64; 7],
    switches: [u64; 2],
    scaled: [u64; 3],
    freepages: [u64; 2],
    thrashing: [u64; 2],
    ac_btime64: u64,
    compact: [u64; 2],
    ac_tgid: u32,
    ac_tgetime: u64,
    ac_exe_dev: u64,
    ac_exe_inode: u64,
    wpcopy_count: u64,
    wpcopy_delay_total: u64,
}

/// The first version that tells a thread's process (11), its program (12) and `wpcopy_count`: all came with Linux 5.19.
const FULL_VERSION: u16 = 13;
/// The first version whose fields up to `ac_btime64` are where they are looked for.
const FIRST_VERSION: u16 = 10;
/// Had fields added in the middle, which was taken back one version later.
const MISLAID_VERSION: u16 = 15;

/// A process that has exited, its threads taken together; a thread, where the kernel does not tell its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exited {
    /// Process id.
    pub pid: u32,
    /// Its parent at the end.
    pub ppid: u32,
    /// User id at the end.
    pub uid: u32,
    /// Name at the end.
    pub comm: String,
    /// Number of threads.
    pub threads: u64,
    /// Entries into the write-protect copy path, where the kernel counts them.
    pub wpcopy: Option<u64>,
    /// Solved page faults without I/O.
    pub minflt: u64,
    /// Solved page faults with I/O.
    pub majflt: u64,
    /// Largest resident set of its last program, kB.
    pub max_rss_kb: u64,
}

/// Hears of every exit on the machine, from its creation on.
pub struct Listener {
    socket: OwnedFd,
    family: u16,
    cpus: String,
    sequence: u32,
    exits: Vec<(bool, Exited)>,
}

impl Listener {
    /// Starts to listen.
    pub fn start() -> Result<Listener> {
        // Where there is no such switch, there are no counts either.
        let accounting = std::fs::read_to_string(DELAY_ACCOUNTING);
        let on = accounting.is_ok_and(|value| value.trim() == "1") || !counts_copies();
        ensure!(on, "{DELAY_ACCOUNTING} is not 1: there would be no counts");
        let cpus =
            std::fs::read_to_string("/sys/devices/system/cpu/possible").context("which CPUs are there?")?;
        let mut listener = Listener {
            socket: socket()?,
            family: 0,
            cpus: cpus.trim().to_owned(),
            sequence: 0,
            exits: Vec::new(),
        };
        listener.send(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0")?;
        listener.family = listener.answer().context("the kernel has no TASKSTATS")?;
        listener.register(TASKSTATS_CMD_ATTR_REGISTER_CPUMASK)?;
        Ok(listener)
    }

    /// All processes that have exited since the start. A process's last message is sent before its parent, or a
    /// tracer, can know of its end: nothing needs to be waited for.
    pub fn finish(mut self) -> Result<Vec<Exited>> {
        self.register(TASKSTATS_CMD_ATTR_DEREGISTER_CPUMASK)?;
        Ok(processes(std::mem::take(&mut self.exits)))
    }

    fn register(&mut self, attribute: u16) -> Result<()> {
        let cpus = format!("{}\0", self.cpus);
        self.send(self.family, TASKSTATS_CMD_GET, attribute, cpus.as_bytes())?;
        self.answer().map(|_| ()).context("TASKSTATS does not accept a listener")
    }

    fn send(&mut self, family: u16, command: u8, attribute: u16, value: &[u8]) -> Result<()> {
        self.sequence += 1;
        let padded = value.len().next_multiple_of(4);
        let length = NLMSG_HEADER + GENL_HEADER + ATTR_HEADER + padded;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut message = Vec::with_capacity(length);
        message.extend((length as u32).to_ne_bytes());
        message.extend(family.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend([command, 1, 0, 0]);
        message.extend(((ATTR_HEADER + value.len()) as u16).to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(value);
        message.resize(length, 0);
        // SAFETY: the buffer is readable for its length.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        ensure!(usize::try_from(sent) == Ok(length), "cannot ask TASKSTATS: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Reads until the acknowledgement of the last question; exits that come in between are kept. The result is the
    /// family's number, where that was the question.
    fn answer(&mut self) -> Result<u16> {
        let mut family = 0;
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            // SAFETY: the buffer is writable for its length.
            let got =
                unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            // ENOBUFS among them: an oracle that has lost something is none.
            let got = usize::try_from(got)
                .map_err(|_| io::Error::last_os_error())
                .context("TASKSTATS lost exits")?;
            let mut rest = &buffer[..got];
            while let Some(message) = split(&mut rest, |head| u32_at(head, 0)) {
                match u16_at(message, 4) {
                    Some(kind) if i32::from(kind) == libc::NLMSG_ERROR => {
                        if u32_at(message, 8) != Some(self.sequence) {
                            continue;
                        }
                        let errno = u32_at(message, NLMSG_HEADER).context("a short answer")?.cast_signed();
                        if errno != 0 {
                            bail!(io::Error::from_raw_os_error(-errno));
                        }
                        return Ok(family);
                    }
                    Some(GENL_ID_CTRL) => {
                        let id = find(attributes(message), CTRL_ATTR_FAMILY_ID);
                        family = id.and_then(|id| u16_at(id, 0)).context("an answer without a family id")?;
                    }
                    Some(kind) if kind == self.family => self.exits.extend(exit_of(message)?),
                    other => bail!("a message of unknown type {other:?}"),
                }
            }
        }
    }
}

fn socket() -> Result<OwnedFd> {
    // SAFETY: plain numbers; the result is a new descriptor or an error.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_GENERIC) };
    ensure!(fd >= 0, "cannot open a netlink socket: {}", io::Error::last_os_error());
    // SAFETY: new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let size = (&raw const BUFFER_BYTES).cast();
    let length = size_of_val(&BUFFER_BYTES) as libc::socklen_t;
    // SAFETY: an integer and its size.
    let set = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size, length) };
    ensure!(set == 0, "cannot enlarge the receive buffer: {}", io::Error::last_os_error());
    Ok(socket)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Takes the first of several aligned records off `rest`; `length` reads its length.
fn split<'a>(rest: &mut &'a [u8], length: impl Fn(&[u8]) -> Option<u32>) -> Option<&'a [u8]> {
    let length = usize::try_from(length(rest)?).ok()?;
    let record = rest.get(..length).filter(|record| record.len() >= 4)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(record)
}

/// The attributes of a generic netlink message.
fn attributes(message: &[u8]) -> &[u8] {
    message.get(NLMSG_HEADER + GENL_HEADER..).unwrap_or_default()
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some(attribute) = split(&mut attributes, |head| u16_at(head, 0).map(u32::from)) {
        if u16_at(attribute, 2)? & ATTR_TYPE_MASK == wanted {
            return attribute.get(ATTR_HEADER..);
        }
    }
    None
}

/// One thread's exit, and whether it was the last of its process; `None` for messages about whole processes, which
/// have no delay counts.
fn exit_of(message: &[u8]) -> Result<Option<(bool, Exited)>> {
    let Some(thread) = find(attributes(message), TASKSTATS_TYPE_AGGR_PID) else { return Ok(None) };
    let tid = find(thread, TASKSTATS_TYPE_PID).and_then(|id| u32_at(id, 0));
    let bytes = find(thread, TASKSTATS_TYPE_STATS).context("an exit without figures")?;
    let stats = TaskStats::read(bytes)?;
    ensure!(
        tid == Some(stats.ac_pid),
        "struct taskstats is not laid out as expected: {tid:?}, {}",
        stats.ac_pid
    );
    let full = stats.version >= FULL_VERSION;
    let comm = stats.ac_comm.split(|&byte| byte == 0).next().unwrap_or_default();
    let exited = Exited {
        pid: if full { stats.ac_tgid } else { stats.ac_pid },
        ppid: stats.ac_ppid,
        uid: stats.ac_uid,
        comm: String::from_utf8_lossy(comm).into_owned(),
        threads: 1,
        wpcopy: full.then_some(stats.wpcopy_count),
        minflt: stats.ac_minflt,
        majflt: stats.ac_majflt,
        max_rss_kb: stats.hiwater_rss,
    };
    Ok(Some((!full || stats.ac_flag & LAST_OF_GROUP != 0, exited)))
}

impl TaskStats {
    /// From a message: of an older version what that has, and else zeros.
    fn read(message: &[u8]) -> Result<TaskStats> {
        let version = u16_at(message, 0).context("figures without a version")?;
        let needed =
            if version >= FULL_VERSION { size_of::<TaskStats>() } else { offset_of!(TaskStats, compact) };
        ensure!(
            version >= FIRST_VERSION && version != MISLAID_VERSION && message.len() >= needed,
            "struct taskstats version {version} with {} bytes is not one whose fields are known",
            message.len()
        );
        let mut whole = [0; size_of::<TaskStats>()];
        let known = message.len().min(whole.len());
        whole[..known].copy_from_slice(&message[..known]);
        // SAFETY: as long as the structure, and any bytes are valid.
        Ok(unsafe { whole.as_ptr().cast::<TaskStats>().read_unaligned() })
    }
}

/// Threads taken together; a process id that comes again after its process's last thread is another process.
fn processes(exits: Vec<(bool, Exited)>) -> Vec<Exited> {
    let mut open: std::collections::HashMap<u32, Exited> = std::collections::HashMap::new();
    let mut done: Vec<Exited> = Vec::new();
    let add = |sum: &mut Exited, thread: &Exited| {
        sum.threads += thread.threads;
        sum.wpcopy = sum.wpcopy.zip(thread.wpcopy).map(|(sum, more)| sum + more);
        sum.minflt += thread.minflt;
        sum.majflt += thread.majflt;
        sum.max_rss_kb = sum.max_rss_kb.max(thread.max_rss_kb);
    };
    for (last, thread) in exits {
        let none = thread.wpcopy.map(|_| 0);
        let mut sum = Exited { threads: 0, wpcopy: none, minflt: 0, majflt: 0, ..thread.clone() };
        if let Some(before) = open.remove(&thread.pid) {
            add(&mut sum, &before);
        }
        add(&mut sum, &thread);
        if last {
            done.push(sum);
        } else {
            open.insert(thread.pid, sum);
        }
    }
    // Two threads may end at once, and the message of the last one overtake the other's.
    for (pid, late) in open {
        if let Some(process) = done.iter_mut().rev().find(|process| process.pid == pid) {
            add(process, &late);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(pid: u32, wpcopy: u64) -> Exited {
        Exited { pid, threads: 1, wpcopy: Some(wpcopy), ..Exited::default() }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        // From a C program with linux/taskstats.h, version 13.
        assert_eq!(offset_of!(TaskStats, ac_comm), 80);
        assert_eq!(offset_of!(TaskStats, ac_minflt), 168);
        assert_eq!(offset_of!(TaskStats, compact), 352);
        assert_eq!(offset_of!(TaskStats, ac_tgid), 368);
        assert_eq!(offset_of!(TaskStats, wpcopy_count), 400);
    }

    #[test]
    fn older_versions_have_less_and_unknown_ones_are_refused() {
        let message = |version: u16, length: usize| {
            let mut bytes = vec![7; length];
            bytes[..2].copy_from_slice(&version.to_ne_bytes());
            TaskStats::read(&bytes).map(|stats| (stats.ac_minflt, stats.wpcopy_count))
        };
        let sevens = u64::from_ne_bytes([7; 8]);
        // Of 5.10 and of 6.1.
        assert_eq!(message(10, 352).unwrap(), (sevens, 0));
        assert_eq!(message(13, 416).unwrap(), (sevens, sevens));
        for (version, length) in [(9, 416), (15, 416), (13, 352), (10, 344)] {
            assert!(message(version, length).is_err(), "version {version}, {length} bytes");
        }
    }

    #[test]
    fn threads_are_summed_and_a_reused_id_is_another_process() {
        let exits = vec![
            (false, thread(7, 1)),
            (true, thread(7, 2)),
            (true, thread(8, 5)),
            (true, thread(7, 10)),
            // Overtaken by the last one's.
            (false, thread(7, 100)),
        ];
        let sums: Vec<_> = processes(exits).iter().map(|p| (p.pid, p.wpcopy, p.threads)).collect();
        assert_eq!(sums, [(7, Some(3), 2), (8, Some(5), 1), (7, Some(110), 2)]);
    }
}
