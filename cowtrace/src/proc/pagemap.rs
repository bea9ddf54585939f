//! `/proc/PID/pagemap` and `/proc/kpageflags`: which frame is behind a page, and what kind of page that is.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::ProcError;

const ENTRY_LEN: usize = 8;
/// Entries read at once.
const BATCH: u64 = 8192;

/// One 64-bit entry of pagemap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// From the bits that the kernel shows.
    pub fn from_bits(bits: u64) -> Entry {
        Entry(bits)
    }

    /// The page is in memory.
    pub fn present(self) -> bool {
        self.0 & 1 << 63 != 0
    }

    /// The page is in swap.
    pub fn swapped(self) -> bool {
        self.0 & 1 << 62 != 0
    }

    /// A page of a file or of shared memory; else it is anonymous.
    pub fn file_or_shared(self) -> bool {
        self.0 & 1 << 61 != 0
    }

    /// The page is mapped exactly once, which is what smaps calls private.
    pub fn mapped_once(self) -> bool {
        self.0 & 1 << 56 != 0
    }

    /// Frame number of a present page; 0 without CAP_SYS_ADMIN.
    pub fn frame(self) -> u64 {
        self.0 & ((1 << 55) - 1)
    }
}

/// An open pagemap.
#[derive(Debug)]
pub struct Pagemap {
    pid: u32,
    file: File,
}

impl Pagemap {
    /// That of this process.
    ///
    /// # Errors
    /// The process is gone or its pagemap may not be read.
    pub fn open(pid: u32) -> Result<Pagemap, ProcError> {
        File::open(format!("/proc/{pid}/pagemap"))
            .map(|file| Pagemap { pid, file })
            .map_err(|source| ProcError::Process { pid, file: "pagemap", source })
    }

    /// Calls `each` with the number and entry of pages `from..to` that are in memory or swap.
    ///
    /// # Errors
    /// The process is gone, or frame numbers are hidden.
    pub fn pages(&self, from: u64, to: u64, mut each: impl FnMut(u64, Entry)) -> Result<(), ProcError> {
        let mut buffer = vec![0; ENTRY_LEN * usize::try_from(BATCH.min(to - from)).unwrap_or(0)];
        let mut page = from;
        while page < to {
            let want = usize::try_from(BATCH.min(to - page)).unwrap_or(0) * ENTRY_LEN;
            let got = self
                .file
                .read_at(&mut buffer[..want], page * ENTRY_LEN as u64)
                .map_err(|source| ProcError::Process { pid: self.pid, file: "pagemap", source })?;
            if got < ENTRY_LEN {
                break;
            }
            for bytes in buffer[..got].as_chunks::<ENTRY_LEN>().0 {
                let entry = Entry(u64::from_ne_bytes(*bytes));
                if entry.present() && entry.frame() == 0 {
                    return Err(ProcError::HiddenFrames { pid: self.pid });
                }
                if entry.present() || entry.swapped() {
                    each(page, entry);
                }
                page += 1;
            }
        }
        Ok(())
    }
}

/// The kernel's flags of frames, opened when first asked for.
#[derive(Debug, Default)]
pub struct FrameFlags {
    file: Option<File>,
}

impl FrameFlags {
    const PATH: &'static str = "/proc/kpageflags";
    const DIRTY: u64 = 1 << 4;
    const HUGETLB: u64 = 1 << 17;
    const KSM: u64 = 1 << 21;
    const ZERO_PAGE: u64 = 1 << 24;

    /// Whether this is (a part of) the zero page, which smaps does not count.
    ///
    /// # Errors
    /// kpageflags may not be read.
    pub fn is_zero_page(&mut self, frame: u64) -> Result<bool, ProcError> {
        Ok(self.flags(frame)? & Self::ZERO_PAGE != 0)
    }

    /// Whether this is (a part of) a hugetlb page.
    ///
    /// # Errors
    /// kpageflags may not be read.
    pub fn is_hugetlb(&mut self, frame: u64) -> Result<bool, ProcError> {
        Ok(self.flags(frame)? & Self::HUGETLB != 0)
    }

    /// Whether KSM has merged this page with others of the same content.
    ///
    /// # Errors
    /// kpageflags may not be read.
    pub fn is_merged(&mut self, frame: u64) -> Result<bool, ProcError> {
        Ok(self.flags(frame)? & Self::KSM != 0)
    }

    /// Whether the page was modified since it was last written out.
    ///
    /// # Errors
    /// kpageflags may not be read.
    pub fn is_dirty(&mut self, frame: u64) -> Result<bool, ProcError> {
        Ok(self.flags(frame)? & Self::DIRTY != 0)
    }

    fn flags(&mut self, frame: u64) -> Result<u64, ProcError> {
        self.read(frame).map_err(|source| ProcError::Frames { file: Self::PATH, source })
    }

    fn read(&mut self, frame: u64) -> io::Result<u64> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(Self::PATH)?),
        };
        let mut bytes = [0; ENTRY_LEN];
        file.read_exact_at(&mut bytes, frame * ENTRY_LEN as u64)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_kernel_documents_them() {
        let entry = Entry::from_bits(1 << 63 | 1 << 56 | 0x1234);
        assert!(entry.present() && entry.mapped_once() && !entry.file_or_shared() && !entry.swapped());
        assert_eq!(entry.frame(), 0x1234);
        let file = Entry::from_bits(1 << 63 | 1 << 61 | 7);
        assert!(file.file_or_shared() && !file.mapped_once());
        assert!(Entry::from_bits(1 << 62).swapped());
    }
}
