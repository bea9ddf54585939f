//! What a thread's last fault was, if it is over and nothing has come after it that would have told the kernel side.

use cowtrace_abi::{Fault, Kind, ProcSlot, TaskSlot, flag, mode, state, tag, without_page};

use crate::{
    probe::Backend,
    proc::{FrameFlags, Pagemap, ProcError},
};

/// The frame number in an x86 page-table entry. In one for a large block, bit 12 is an attribute; from bit 47 on there
/// may be one that says how memory is encrypted.
const FRAME: u64 = 0x0000_7fff_ffff_e000;
const FRAME_SHIFT: u64 = 12;
/// Bits of a page number inside of a huge page, for each size of huge pages.
const INSIDE: [u64; 2] = [(1 << 9) - 1, (1 << 18) - 1];

/// What an address maps now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    frame: u64,
    /// A hugetlb page, and no file's.
    private_hugetlb: bool,
}

/// What the address maps, if the process is there to be asked, and may be.
pub(super) fn mapped_now(pid: u32, address: u64) -> Option<Mapped> {
    let read = || -> Result<Option<Mapped>, ProcError> {
        let page = address / crate::kernel::page_size();
        let (mut flags, mut found) = (FrameFlags::default(), None);
        Pagemap::open(pid)?.pages(page, page + 1, |_, entry| {
            found = entry.present().then_some(entry);
        })?;
        let Some(entry) = found else { return Ok(None) };
        let private_hugetlb = !entry.file_or_shared() && flags.is_hugetlb(entry.frame())?;
        Ok(Some(Mapped { frame: entry.frame(), private_hugetlb }))
    };
    read().ok().flatten()
}

/// The last fault's kind. `mapped` tells what its address maps now; it is asked only where that matters, which is for
/// huge pages: these come from a pool, without an allocation that could be seen.
pub(super) fn outcome(task: &TaskSlot, mapped: impl FnOnce() -> Option<Mapped>) -> Option<Kind> {
    match task.state {
        state::FILE_FIRST_WRITE => Some(Kind::FileFirstWrite),
        state::COPIED if task.kind == Kind::Copy as u8 => Some(Kind::Copy),
        state::COPIED => Some(Kind::FileAfterRead),
        // Unread, and no page was allocated: as its neighbours, it was private and anonymous.
        state::WRITE_PROTECT if task.flags & flag::UNREAD != 0 => Some(Kind::Reuse),
        state::WRITE_PROTECT if task.flags & flag::SPURIOUS == 0 && task.entry != 0 => {
            match Kind::from_u8(task.kind)? {
                Kind::Copy => Some(Kind::Reuse),
                Kind::FileAfterRead => Some(Kind::Shared),
                Kind::Hugetlb => {
                    let same = is_inside(mapped()?.frame, task.entry, task.address);
                    Some(if same { Kind::HugetlbReuse } else { Kind::Hugetlb })
                }
                _ => None,
            }
        }
        // As in the kernel: a private huge page takes the write-protect path when it is first written.
        state::NOT_PRESENT if mapped()?.private_hugetlb => Some(Kind::HugetlbReuse),
        _ => None,
    }
}

/// The same where the hooks are the kernel's functions.
pub(super) fn outcome_of_functions(task: &TaskSlot) -> Option<Kind> {
    without_page(task.state, task.flags)
}

/// The record that the kernel side would have written of it; `now_ns` is its time where its begin was not seen.
pub(super) fn fault(task: &TaskSlot, process: &ProcSlot, kind: Kind, backend: Backend, now_ns: u64) -> Fault {
    let (ip, mode) = match backend {
        Backend::Tracepoint if task.flags & flag::KERNEL_MODE != 0 => (task.user_ip, mode::KERNEL),
        Backend::Tracepoint => (task.ip, mode::USER),
        Backend::Fentry | Backend::Kprobe => (task.ip, task.mode),
    };
    Fault {
        tag: tag::FAULT,
        id: process.id,
        at_ns: if task.begin_ns != 0 { task.begin_ns } else { now_ns },
        address: task.address,
        ip,
        pages: 1,
        tid: task.tid,
        execs: u32::try_from(process.execs).unwrap_or(u32::MAX),
        kind: kind as u8,
        mode,
        remote: u8::from(task.flags & flag::REMOTE != 0),
        ..Fault::default()
    }
}

/// Whether this frame is the part for `address` of the huge page that the entry mapped.
fn is_inside(frame: u64, entry: u64, address: u64) -> bool {
    let first = (entry & FRAME) >> FRAME_SHIFT;
    let page = address >> FRAME_SHIFT;
    frame.checked_sub(first).is_some_and(|place| INSIDE.iter().any(|inside| page & inside == place))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writable, present, a large block; the attribute bit is set, and one for encryption.
    const BITS: u64 = 0x8008_0000_0000_10e7;
    const ADDRESS: u64 = 0x7f00_0020_5000;

    fn task(state: u8, kind: Kind) -> TaskSlot {
        TaskSlot {
            state,
            kind: kind as u8,
            entry: 0x4_0000 << 12 | BITS,
            address: ADDRESS,
            ..TaskSlot::default()
        }
    }

    fn mapped(frame: u64, private_hugetlb: bool) -> Option<Mapped> {
        Some(Mapped { frame, private_hugetlb })
    }

    #[test]
    fn the_frame_tells_whether_a_huge_page_was_copied() {
        let fault = task(state::WRITE_PROTECT, Kind::Hugetlb);
        assert_eq!(outcome(&fault, || mapped(0x4_0005, true)), Some(Kind::HugetlbReuse));
        assert_eq!(
            outcome(&fault, || mapped(0x4_0205, true)),
            Some(Kind::HugetlbReuse),
            "in a page of 1 GiB"
        );
        assert_eq!(outcome(&fault, || mapped(0x8_0005, true)), Some(Kind::Hugetlb));
        assert_eq!(outcome(&fault, || mapped(0x2_0005, true)), Some(Kind::Hugetlb));
        assert_eq!(outcome(&fault, || None), None);
    }

    #[test]
    fn a_first_write_without_an_allocation_was_one_to_a_huge_page_or_nothing() {
        let fault = task(state::NOT_PRESENT, Kind::Copy);
        assert_eq!(outcome(&fault, || mapped(7, true)), Some(Kind::HugetlbReuse));
        assert_eq!(outcome(&fault, || mapped(7, false)), None);
    }

    #[test]
    fn other_faults_need_no_look_at_the_page() {
        let never = || panic!("not to be asked");
        assert_eq!(outcome(&task(state::WRITE_PROTECT, Kind::Copy), never), Some(Kind::Reuse));
        assert_eq!(outcome(&task(state::WRITE_PROTECT, Kind::FileAfterRead), never), Some(Kind::Shared));
        assert_eq!(outcome(&task(state::COPIED, Kind::Copy), never), Some(Kind::Copy));
        assert_eq!(outcome(&task(state::NONE, Kind::Copy), never), None);
        let spurious = TaskSlot { flags: flag::SPURIOUS, ..task(state::WRITE_PROTECT, Kind::Hugetlb) };
        assert_eq!(outcome(&spurious, never), None);
    }
}
