//! One mapping as the kernel describes it, and what happens to mappings.

use std::fmt;
use std::sync::Arc;

/// Suffix that the kernel gives to the path of a file that has no name any more.
const DELETED: &str = " (deleted)";

/// Name of the memory below the program break.
pub(super) const HEAP: &str = "[heap]";

/// What a mapping allows, and whether writes stay private.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Perms {
    /// Pages may be read.
    pub read: bool,
    /// Pages may be written; only such a mapping can take a copy-on-write fault.
    pub write: bool,
    /// Pages may be executed.
    pub execute: bool,
    /// Writes reach the file or the other processes (`MAP_SHARED`).
    pub shared: bool,
}

impl Perms {
    /// `rw-p`: the only memory in which pages are copied on write.
    pub const PRIVATE: Perms = Perms { read: true, write: true, execute: false, shared: false };

    /// Reads the spelling of `/proc/PID/maps`, for example `rw-p`; `None` where the text is not that.
    pub fn parse(text: &str) -> Option<Perms> {
        let &[read, write, execute, shared] = text.as_bytes() else { return None };
        let flag = |byte: u8, set: u8, unset: u8| match byte {
            b if b == set => Some(true),
            b if b == unset => Some(false),
            _ => None,
        };
        Some(Perms {
            read: flag(read, b'r', b'-')?,
            write: flag(write, b'w', b'-')?,
            execute: flag(execute, b'x', b'-')?,
            shared: flag(shared, b's', b'p')?,
        })
    }
}

impl fmt::Display for Perms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pick = |set: bool, yes: &'static str, no: &'static str| if set { yes } else { no };
        f.write_str(pick(self.read, "r", "-"))?;
        f.write_str(pick(self.write, "w", "-"))?;
        f.write_str(pick(self.execute, "x", "-"))?;
        f.write_str(pick(self.shared, "s", "p"))
    }
}

/// A mapping, spelled as in `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Permissions.
    pub perms: Perms,
    /// Offset of `start` in the file; 0 where there is no file.
    pub offset: u64,
    /// Path or bracketed name; empty for plain anonymous memory.
    pub name: Arc<str>,
}

impl Mapping {
    /// Whether both can be two sightings of one mapping, of which one may since have grown, been named or lost its
    /// file's directory entry. Device and inode do not take part: for the same file of an overlay or a btrfs
    /// subvolume, perf and `/proc/PID/maps` report different ones.
    pub(super) fn same_identity(&self, other: &Mapping) -> bool {
        self.perms == other.perms
            && same_name(&self.name, &other.name)
            && (!self.has_file()
                || self.offset.wrapping_sub(self.start) == other.offset.wrapping_sub(other.start))
    }

    /// Whether a file is behind it, so that the offset means something.
    fn has_file(&self) -> bool {
        self.name.starts_with('/')
    }

    /// The name that tells more, of two sightings of one mapping. perf cannot see the name that `prctl(PR_SET_VMA)`
    /// gives, which comes after the mapping; and the path is worth more than the news that it is gone.
    pub(super) fn better_name<'a>(&'a self, other: &'a Mapping) -> &'a Arc<str> {
        if self.name.is_empty() { &other.name } else { &self.name }
    }
}

fn same_name(a: &str, b: &str) -> bool {
    // Anonymous memory that got its name after perf told of it.
    let named_late = |name: &str| name == HEAP || name.starts_with("[anon:");
    trim_deleted(a) == trim_deleted(b) || (a.is_empty() && named_late(b)) || (b.is_empty() && named_late(a))
}

fn trim_deleted(name: &str) -> &str {
    name.strip_suffix(DELETED).unwrap_or(name)
}

/// A change to the mappings of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEvent {
    /// When, on `CLOCK_MONOTONIC`; taken after the change, before the process goes on.
    pub at_ns: u64,
    /// Process id (thread group).
    pub pid: u32,
    /// What happened.
    pub kind: MapEventKind,
}

/// The kinds of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapEventKind {
    /// This mapping is there from now on, over whatever was in its range.
    Map(Mapping),
    /// All that was mapped is gone; a new program's mappings follow.
    Exec,
}
