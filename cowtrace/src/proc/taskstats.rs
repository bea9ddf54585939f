//! The kernel's own count of a thread's entries into the write-protect copy path: generic netlink family TASKSTATS.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use super::ProcError;

// From linux/netlink.h, linux/genetlink.h and linux/taskstats.h.
const NETLINK_GENERIC: i32 = 16;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const TASKSTATS_CMD_GET: u8 = 1;
const TASKSTATS_CMD_ATTR_PID: u16 = 1;
const TASKSTATS_TYPE_STATS: u16 = 3;
const TASKSTATS_TYPE_AGGR_PID: u16 = 4;
const NLMSG_HEADER: usize = 16;
const GENL_HEADER: usize = 4;
const ATTR_HEADER: usize = 4;
const ATTR_TYPE_MASK: u16 = 0x3fff;

/// Offset of `wpcopy_count` in `struct taskstats`, since the version that brought it (Linux 5.19).
const WPCOPY_COUNT: usize = 400;
const FIRST_VERSION: u16 = 13;
/// Had fields added in the middle, which was taken back one version later.
const MISLAID_VERSION: u16 = 15;

/// `wpcopy_count` of a living thread; `None` if this kernel does not have it.
///
/// It is 0 for a thread that was started while `kernel.task_delayacct` was 0.
///
/// # Errors
/// The thread is gone, or the kernel gives no accounting (CAP_NET_ADMIN, CONFIG_TASKSTATS).
pub fn wpcopy_count(tid: u32) -> Result<Option<u64>, ProcError> {
    read(tid).map_err(|source| ProcError::TaskStats { pid: tid, source })
}

fn read(tid: u32) -> io::Result<Option<u64>> {
    let socket = socket()?;
    let answer = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0")?;
    let family = find(attributes(&answer), CTRL_ATTR_FAMILY_ID).and_then(|id| u16_at(id, 0));
    let family = family.ok_or_else(unexpected)?;
    let answer = ask(&socket, family, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &tid.to_ne_bytes())?;
    let thread = find(attributes(&answer), TASKSTATS_TYPE_AGGR_PID).ok_or_else(unexpected)?;
    let stats = find(thread, TASKSTATS_TYPE_STATS).ok_or_else(unexpected)?;
    wpcopy_of(stats)
}

/// The count in a `struct taskstats`.
fn wpcopy_of(stats: &[u8]) -> io::Result<Option<u64>> {
    let version = u16_at(stats, 0).ok_or_else(unexpected)?;
    if version < FIRST_VERSION || version == MISLAID_VERSION {
        return Ok(None);
    }
    let bytes = stats.get(WPCOPY_COUNT..).and_then(|rest| rest.first_chunk());
    bytes.map(|bytes| Some(u64::from_ne_bytes(*bytes))).ok_or_else(unexpected)
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is not understood")
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the result is a new descriptor or an error.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_GENERIC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a question with one attribute, and gives the answer: one message.
fn ask(socket: &OwnedFd, family: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let question = question(family, command, attribute, value);
    // SAFETY: the buffer is readable for its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), question.as_ptr().cast(), question.len(), 0) };
    if usize::try_from(sent) != Ok(question.len()) {
        return Err(io::Error::last_os_error());
    }
    let mut answer = vec![0; 8192];
    // SAFETY: the buffer is writable for its length.
    let got = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    answer.truncate(usize::try_from(got).map_err(|_| io::Error::last_os_error())?);
    if u16_at(&answer, 4).map(i32::from) == Some(libc::NLMSG_ERROR) {
        let errno = u32_at(&answer, NLMSG_HEADER).ok_or_else(unexpected)?.cast_signed();
        return Err(io::Error::from_raw_os_error(-errno));
    }
    Ok(answer)
}

fn question(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let length = NLMSG_HEADER + GENL_HEADER + ATTR_HEADER + value.len().next_multiple_of(4);
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    // Number of the question, and of the asking port, which the kernel fills in.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(((ATTR_HEADER + value.len()) as u16).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(length, 0);
    message
}

/// The attributes of a generic netlink message.
fn attributes(message: &[u8]) -> &[u8] {
    message.get(NLMSG_HEADER + GENL_HEADER..).unwrap_or_default()
}

/// The content of the first attribute of this type.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(u16_at(attributes, 0)?), u16_at(attributes, 2)?);
        let content = attributes.get(ATTR_HEADER..length)?;
        if kind & ATTR_TYPE_MASK == wanted {
            return Some(content);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others() {
        let message = question(7, 1, 4, b"abcdef");
        let mut two = attributes(&message).to_vec();
        assert_eq!(find(&two, 4), Some(&b"abcdef"[..]));
        two.extend(attributes(&question(7, 1, 9, b"x")));
        assert_eq!(find(&two, 9), Some(&b"x"[..]));
        assert_eq!(find(&two, 5), None);
        assert_eq!(find(&[1, 0, 9, 0], 9), None, "shorter than its own head");
    }

    #[test]
    fn the_count_is_read_from_versions_that_have_it_in_its_place() {
        let mut stats = vec![0; 500];
        stats[WPCOPY_COUNT..WPCOPY_COUNT + 8].copy_from_slice(&1234u64.to_ne_bytes());
        let mut of_version = |version: u16| {
            stats[..2].copy_from_slice(&version.to_ne_bytes());
            wpcopy_of(&stats).unwrap()
        };
        assert_eq!([10, 13, 15, 16].map(&mut of_version), [None, Some(1234), None, Some(1234)]);
        assert!(wpcopy_of(&stats[..100]).is_err());
    }

    #[test]
    fn own_thread_has_a_count_or_an_error_says_why() {
        match wpcopy_count(std::process::id()) {
            Ok(_) | Err(ProcError::TaskStats { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
