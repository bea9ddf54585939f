//! Whether pagemap shows the frames behind pages.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use serde::Serialize;

use super::finding::{Finding, State};
use crate::{kernel::page_size, proc::Entry};

/// What pagemap tells of a page of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PagemapFact {
    /// Why it cannot be read; `None`: it can.
    pub answer: Option<String>,
    /// Frame numbers are shown.
    pub frames: bool,
}

impl PagemapFact {
    pub(super) fn gather() -> PagemapFact {
        let here = 0_u8;
        Self::from_entry(entry_of(&raw const here as u64))
    }

    /// From the entry of a page that is in memory.
    pub(super) fn from_entry(entry: io::Result<u64>) -> PagemapFact {
        match entry {
            Ok(bits) => {
                let entry = Entry::from_bits(bits);
                PagemapFact { answer: None, frames: entry.present() && entry.frame() != 0 }
            }
            Err(error) => PagemapFact { answer: Some(error.to_string()), frames: false },
        }
    }

    pub(super) fn finding(&self) -> Finding {
        let subject = "page frames";
        let found = match &self.answer {
            None if self.frames => return Finding::new(subject, State::Good, "/proc/PID/pagemap shows them"),
            None => "/proc/PID/pagemap hides them".to_owned(),
            Some(answer) => format!("/proc/self/pagemap: {answer}"),
        };
        let advice = if self.answer.is_none() {
            "run as root or with CAP_SYS_ADMIN"
        } else {
            "use a kernel built with CONFIG_PROC_PAGE_MONITOR=y, and mount /proc"
        };
        Finding::new(subject, State::Limited, found).but(
            "with the tracepoint backend, copy, file, ksm, hugetlb, reuse and shared cannot be told apart, and are null; \
             the lab cannot explain Private_Dirty",
            advice,
        )
    }
}

fn entry_of(address: u64) -> io::Result<u64> {
    let mut entry = [0; 8];
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, address / page_size() * 8)?;
    Ok(u64::from_ne_bytes(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_shown_hidden_and_no_pagemap() {
        let state = |entry: io::Result<u64>| PagemapFact::from_entry(entry).finding().state;
        assert_eq!(state(Ok(1 << 63 | 0x1234)), State::Good);
        assert_eq!(state(Ok(1 << 63)), State::Limited);
        assert_eq!(state(Err(io::Error::from_raw_os_error(libc::ENOENT))), State::Limited);
    }
}
