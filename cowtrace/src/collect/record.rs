//! Ring-buffer records, parsed.

use std::ptr;

use cowtrace_abi::{Exec, Exit, Fork, Pages, tag};

/// One record of the kernel programs.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// A process was created.
    Fork(Box<Fork>),
    /// A process became another program.
    Exec(Box<Exec>),
    /// A process is gone.
    Exit(Box<Exit>),
    /// Faults on neighbouring pages.
    Pages(Pages),
}

impl Record {
    /// Parses the bytes of one record; `None` if they are not one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Record> {
        let tag = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
        Some(match tag {
            tag::FORK => Record::Fork(Box::new(read(bytes)?)),
            tag::EXEC => Record::Exec(Box::new(read(bytes)?)),
            tag::EXIT => Record::Exit(Box::new(read(bytes)?)),
            tag::PAGES => Record::Pages(read(bytes)?),
            _ => return None,
        })
    }

    /// When it happened, in monotonic ns; for faults the time of the last one, to the tick.
    pub(super) fn at_ns(&self) -> u64 {
        match self {
            Record::Fork(fork) => fork.at_ns,
            Record::Exec(exec) => exec.at_ns,
            Record::Exit(exit) => exit.process.end_ns,
            Record::Pages(pages) => pages.window.last_ns,
        }
    }
}

/// Types of the kernel boundary: plain integers, any bit pattern is valid.
trait Plain: Copy {}
impl Plain for Fork {}
impl Plain for Exec {}
impl Plain for Exit {}
impl Plain for Pages {}

fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, any pattern is a valid T, and the read does not need alignment.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}
