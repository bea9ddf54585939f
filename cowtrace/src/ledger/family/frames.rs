//! Frames, and the pages of a process that lie on them.

use crate::ledger::table::Table;

/// A frame and its mappings inside the family.
///
/// Only the last remaining one is ever asked for, so the mappings are kept as a number and an exclusive or.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    mappings: u32,
    pid_xor: u32,
    page_xor: u64,
    /// Mapped outside the family as well, so never private.
    pub elsewhere: bool,
}

impl Frame {
    /// One that is shared with somebody outside of the family, as far as is known yet.
    pub fn shared() -> Frame {
        Frame { elsewhere: true, ..Frame::default() }
    }

    /// One that this process has alone.
    pub fn own(pid: u32, page: u64) -> Frame {
        let mut frame = Frame::default();
        frame.map(pid, page);
        frame
    }

    pub fn map(&mut self, pid: u32, page: u64) {
        self.mappings += 1;
        self.pid_xor ^= pid;
        self.page_xor ^= page;
    }

    pub fn unmap(&mut self, pid: u32, page: u64) {
        self.mappings -= 1;
        self.pid_xor ^= pid;
        self.page_xor ^= page;
    }

    /// What smaps calls private; anonymous pages are always dirty.
    pub fn private(&self) -> bool {
        self.mappings == 1 && !self.elsewhere
    }

    /// The process and the page that have it, if it is private.
    pub fn only_mapping(&self) -> Option<(u32, u64)> {
        self.private().then_some((self.pid_xor, self.page_xor))
    }
}

/// How a process came to map a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// At the first reading. Mapped alone, it is private to smaps; whether the kernel takes it for exclusive,
    /// and so never copies it, is not visible.
    Inherited,
    /// Shared by a fork between the readings.
    Forked,
    /// A fault of its own made it, and no fork since has shared it.
    Own,
}

/// A mapped frame: its place in the family's list, and how it came to be mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub frame: usize,
    pub standing: Standing,
}

impl Held {
    /// In one number, below 2^32 - 1: no machine has memory to play with 2^30 frames.
    fn packed(self) -> u32 {
        (self.frame as u32) << 2 | self.standing as u32
    }

    fn unpacked(number: u32) -> Held {
        let standing = match number & 3 {
            0 => Standing::Inherited,
            1 => Standing::Forked,
            _ => Standing::Own,
        };
        Held { frame: number as usize >> 2, standing }
    }
}

/// The pages that a process maps.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages(Table);

impl Pages {
    pub fn get(&self, page: u64) -> Option<Held> {
        self.0.get(page).map(Held::unpacked)
    }

    pub fn insert(&mut self, page: u64, held: Held) {
        self.0.insert(page, held.packed());
    }

    pub fn remove(&mut self, page: u64) -> Option<Held> {
        self.0.remove(page).map(Held::unpacked)
    }

    /// By number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Held)> {
        self.0.iter().map(|(page, number)| (page, Held::unpacked(number)))
    }
}
