//! Questions to TASKSTATS and the kernel's messages, over a generic netlink socket.

use std::{
    io::{self, Cursor},
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use neli::{
    FromBytes as _, Size as _, ToBytes as _,
    consts::{
        genl::{CtrlAttr, CtrlCmd},
        nl::{GenlId, NlmF},
        socket::{Msg, NlFamily},
    },
    genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, NlattrBuilder},
    nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder},
    socket::NlSocket,
    types::{Buffer, GenlBuffer},
    utils::Groups,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};

const FAMILY: &[u8] = b"TASKSTATS\0";
const VERSION: u8 = 1;
/// Longer than any message of this family.
const MESSAGE_BYTES: usize = 16 << 10;
/// Index of the drops in what SO_MEMINFO tells, and how many figures that are (linux/sock_diag.h).
const DROPS: usize = 8;
const MEMORY_FIGURES: usize = 9;

/// A message of the family, or the kernel's word on a question.
pub(super) type Message = Nlmsghdr<u16, Genlmsghdr<u8, u16>>;

/// A socket that talks to the family.
pub(super) struct Channel {
    socket: NlSocket,
    family: u16,
}

impl Channel {
    /// Opens a socket, and finds out the family's number.
    pub fn open() -> io::Result<Channel> {
        let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        let mut channel = Channel { socket, family: GenlId::Ctrl.into() };
        channel.ask(CtrlCmd::Getfamily.into(), CtrlAttr::FamilyName.into(), FAMILY, false)?;
        let answer = channel.answer()?;
        let message = answer.get_payload().ok_or_else(|| not_understood("no answer"))?;
        let attributes = message.attrs().get_attr_handle();
        channel.family =
            attributes.get_attr_payload_as(u16::from(CtrlAttr::FamilyId)).map_err(not_understood)?;
        Ok(channel)
    }

    /// Sends a question with one attribute; with `acknowledge`, the kernel answers even if all is well.
    pub fn ask(&self, command: u8, attribute: u16, value: &[u8], acknowledge: bool) -> io::Result<()> {
        let question = question(self.family, command, attribute, value, acknowledge)?;
        self.socket.send(question, Msg::empty()).map(|_| ())
    }

    /// The next message; an error if it is the kernel's refusal.
    pub fn answer(&self) -> io::Result<Message> {
        let mut buffer = vec![0; MESSAGE_BYTES];
        let (length, _) = self.socket.recv(&mut buffer, Msg::empty())?;
        let mut answer = messages(&buffer[..length]);
        let message = answer.next().ok_or_else(|| not_understood("an empty answer"))??;
        if let NlPayload::Err(refusal) = message.nl_payload() {
            return Err(io::Error::from_raw_os_error(-refusal.error()));
        }
        Ok(message)
    }

    /// Calls `each` with every message that is there, after waiting for the first one no longer than that. An error
    /// of the kernel's (ENOBUFS: messages found no room) ends it, and leaves the rest for the next call.
    pub fn receive(&self, patience: Duration, mut each: impl FnMut(io::Result<Message>)) -> io::Result<()> {
        // SAFETY: the socket stays open while `self` lives.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(nix::Error::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0; MESSAGE_BYTES];
        loop {
            match self.socket.recv(&mut buffer[..], Msg::DONTWAIT) {
                Ok((length, _)) => messages(&buffer[..length]).for_each(&mut each),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes room for messages that are not read yet. The kernel doubles the figure, for its own needs.
    pub fn enlarge(&self, bytes: usize) -> io::Result<()> {
        // SAFETY: the socket stays open while `self` lives.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        Ok(setsockopt(&fd, RcvBufForce, &bytes)?)
    }

    /// Messages that found no room so far; `None` if the kernel does not tell.
    pub fn dropped(&self) -> Option<u64> {
        let mut figures = [0u32; MEMORY_FIGURES];
        let mut length = size_of_val(&figures) as libc::socklen_t;
        let fd = self.socket.as_raw_fd();
        // SAFETY: an array of that length.
        let told = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                figures.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let known = length as usize / size_of::<u32>();
        (told == 0 && known > DROPS).then(|| u64::from(figures[DROPS]))
    }
}

/// The message for a question.
fn question(
    family: u16,
    command: u8,
    attribute: u16,
    value: &[u8],
    acknowledge: bool,
) -> io::Result<Vec<u8>> {
    let name = AttrTypeBuilder::default().nla_type(attribute).build().map_err(not_understood)?;
    let attribute = NlattrBuilder::default().nla_type(name).nla_payload(Buffer::from(value)).build();
    let attributes = [attribute.map_err(not_understood)?].into_iter().collect::<GenlBuffer<u16, Buffer>>();
    let body = GenlmsghdrBuilder::default().cmd(command).version(VERSION).attrs(attributes).build();
    let flags = if acknowledge { NlmF::REQUEST | NlmF::ACK } else { NlmF::REQUEST };
    let message = NlmsghdrBuilder::default()
        .nl_type(family)
        .nl_flags(flags)
        .nl_payload(NlPayload::Payload(body.map_err(not_understood)?))
        .build()
        .map_err(not_understood)?;
    let mut bytes = Cursor::new(vec![0; message.padded_size()]);
    message.to_bytes(&mut bytes).map_err(not_understood)?;
    Ok(bytes.into_inner())
}

/// The messages that came at once; after one that is not understood, none.
fn messages(bytes: &[u8]) -> impl Iterator<Item = io::Result<Message>> {
    let mut rest = Cursor::new(bytes);
    std::iter::from_fn(move || {
        if rest.position() >= bytes.len() as u64 {
            return None;
        }
        let message = Message::from_bytes(&mut rest).map_err(not_understood);
        if message.is_err() {
            rest.set_position(bytes.len() as u64);
        }
        Some(message)
    })
}

/// An answer that is not as it should be.
pub(super) fn not_understood(why: impl ToString) -> io::Error {
    let why = why.to_string();
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel's answer is not understood: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_message_that_can_be_read() {
        let mut bytes = question(7, 1, 4, b"abcdef", true).unwrap();
        bytes.extend(question(7, 2, 9, b"x", false).unwrap());
        let read: Vec<Message> = messages(&bytes).collect::<io::Result<_>>().unwrap();
        let attribute = |message: &Message, kind: u16| {
            let attributes = message.get_payload()?.attrs().get_attr_handle();
            Some(attributes.get_attribute(kind)?.nla_payload().as_ref().to_vec())
        };
        assert_eq!(read.len(), 2);
        assert_eq!(attribute(&read[0], 4), Some(b"abcdef".to_vec()));
        assert_eq!(attribute(&read[1], 9), Some(b"x".to_vec()));
        assert_eq!(attribute(&read[1], 4), None);
    }

    #[test]
    fn half_a_message_is_an_error_and_the_last() {
        let whole = question(7, 1, 4, b"abcdef", false).unwrap();
        let read: Vec<_> = messages(&whole[..whole.len() - 6]).collect();
        assert!(matches!(&read[..], [Err(_)]), "{read:?}");
    }
}
