//! Records in the ring buffer, from the kernel programs to user space.

use crate::{COMM_LEN, ProcSlot, Window};

/// Bytes of the argument list that an [`Exec`] record holds at most.
pub const ARGS_LEN: usize = 512;

/// Number of CLONE_VM in `clone_flags`.
pub const CLONE_VM: u64 = 0x100;
/// Number of CLONE_VFORK in `clone_flags`.
pub const CLONE_VFORK: u64 = 0x4000;
/// Number of CLONE_THREAD in `clone_flags`.
pub const CLONE_THREAD: u64 = 0x1_0000;

/// Values of the first field of every record.
pub mod tag {
    /// [`super::Fork`].
    pub const FORK: u64 = 1;
    /// [`super::Exec`].
    pub const EXEC: u64 = 2;
    /// [`super::Exit`].
    pub const EXIT: u64 = 3;
    /// [`super::Pages`].
    pub const PAGES: u64 = 4;
    /// [`super::Fault`].
    pub const FAULT: u64 = 5;
    /// [`crate::Times`].
    pub const TIMES: u64 = 6;
    /// [`super::Renamed`].
    pub const RENAMED: u64 = 7;
}

/// A process was created.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// [`tag::FORK`].
    pub tag: u64,
    /// Monotonic time, ns.
    pub at_ns: u64,
    /// The new process's [`ProcSlot::id`].
    pub id: u64,
    /// The forking process's [`ProcSlot::id`].
    pub forked_from: u64,
    /// Flags of clone(2).
    pub clone_flags: u64,
    /// When the system call began (tracepoint backend: when it took the first page for the child), monotonic ns; 0 if the
    /// hooks do not tell.
    pub clone_ns: u64,
    /// Page-table bytes of the child, right after they were copied.
    pub page_table_bytes: u64,
    /// Bytes copied by the parent so far are told by its counters: [`ProcSlot::counts`] at this moment.
    pub parent_counts: [u64; crate::KINDS],
    /// [`ProcSlot::epoch`] of the forking process from here on.
    pub parent_epoch: u64,
    /// The child's process id.
    pub tgid: u32,
    /// The child's parent.
    pub ppid: u32,
    /// The forking process.
    pub parent_tgid: u32,
    /// The child's process id in its own PID namespace; 0 if not known.
    pub ns_tgid: u32,
    /// Command name, inherited.
    pub comm: [u8; COMM_LEN],
}

/// A process became another program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// [`tag::EXEC`].
    pub tag: u64,
    /// Monotonic time, ns.
    pub at_ns: u64,
    /// [`ProcSlot::id`].
    pub id: u64,
    /// [`ProcSlot::counts`] of the process that forked it, at this moment: ends the fork's bill.
    pub parent_counts: [u64; crate::KINDS],
    /// [`ProcSlot::epoch`] of that process from here on; 0 if it shared no pages, or is gone.
    pub parent_epoch: u64,
    /// [`ProcSlot::counts`] of this process at this moment.
    pub counts: [u64; crate::KINDS],
    /// Command name.
    pub comm: [u8; COMM_LEN],
    /// Length of the whole argument list, which may be more than is kept.
    pub args_len: u64,
    /// NUL-separated arguments.
    pub args: [u8; ARGS_LEN],
}

/// A process got a name. If an [`Exec`] follows, its last name is the new program's, and what was written between the two is
/// in the new program's memory: `begin_new_exec` gives the name once the old memory is left, and the program is loaded
/// (`.bss` is cleared) before the exec is told.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// [`tag::RENAMED`].
    pub tag: u64,
    /// Monotonic time, ns.
    pub at_ns: u64,
    /// [`ProcSlot::id`].
    pub id: u64,
}

/// The last thread of a process exited.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// [`tag::EXIT`].
    pub tag: u64,
    /// [`ProcSlot::counts`] of the process that forked it, at this moment.
    pub parent_counts: [u64; crate::KINDS],
    /// [`ProcSlot::epoch`] of that process from here on; 0 if it shared no pages, or is gone.
    pub parent_epoch: u64,
    /// Everything that is known of the process, final.
    pub process: ProcSlot,
}

/// Faults of one kind on neighbouring pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// [`tag::PAGES`].
    pub tag: u64,
    /// [`ProcSlot::id`].
    pub id: u64,
    /// Which pages, how often, when.
    pub window: Window,
    /// Pages from the first bit on, if one fault brought in many (a huge page); else 0.
    pub span: u64,
}

/// One fault, for those who asked for a record of each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// [`tag::FAULT`].
    pub tag: u64,
    /// [`ProcSlot::id`].
    pub id: u64,
    /// When it began, monotonic ns; when its outcome was seen, if no hook told of its begin.
    pub at_ns: u64,
    /// How long it took, ns, if that was asked for; 0: its begin or its end was not seen.
    pub took_ns: u64,
    /// Address that was written to.
    pub address: u64,
    /// Instruction in user mode that wrote, or made the system call that did; 0 if not known.
    pub ip: u64,
    /// Pages that it brought in.
    pub pages: u64,
    /// First address of the mapping, as the kernel had it; 0 if not known.
    pub vma_start: u64,
    /// The end of that mapping, exclusive.
    pub vma_end: u64,
    /// Thread id.
    pub tid: u32,
    /// [`ProcSlot::execs`] at that time.
    pub execs: u32,
    /// [`crate::Kind`].
    pub kind: u8,
    /// One of [`mode`]: who wrote.
    pub mode: u8,
    /// 1: the memory is another process's.
    pub remote: u8,
    /// Makes the layout explicit.
    pub reserved: [u8; 5],
}

/// Values of [`Fault::mode`].
pub mod mode {
    /// Not known.
    pub const UNKNOWN: u8 = 0;
    /// The program itself.
    pub const USER: u8 = 1;
    /// The kernel, in a system call of the program.
    pub const KERNEL: u8 = 2;
}

const _: () = assert!(size_of::<Fork>() == 8 * 8 + crate::KINDS * 8 + 4 * 4 + COMM_LEN);
const _: () = assert!(size_of::<Exec>() == 4 * 8 + 2 * crate::KINDS * 8 + COMM_LEN + 8 + ARGS_LEN);
const _: () = assert!(size_of::<Exit>() == 2 * 8 + crate::KINDS * 8 + size_of::<ProcSlot>());
const _: () = assert!(size_of::<Pages>() == 8 + 8 + size_of::<Window>() + 8);
const _: () = assert!(size_of::<Fault>() == 9 * 8 + 2 * 4 + 8);
