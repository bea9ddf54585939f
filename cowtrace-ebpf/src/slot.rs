//! State that the programs keep per thread and per process, in arrays that user space can read.

use crate::{KINDS, Kind};

/// Bytes of a command name, `TASK_COMM_LEN`.
pub const COMM_LEN: usize = 16;

/// Pages that one [`Window`] covers: one bit each.
pub const WINDOW_PAGES: u64 = 64;

/// Windows that each thread keeps before one has to be sent out.
pub const WINDOWS: usize = 4;

/// Faults of one kind on up to 64 neighbouring pages, gathered in the kernel so that a run of faults costs
/// one ring-buffer record instead of one each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From the lowest bit: kind (8 bits), number of the window (page number / 64; 40 bits), low bits of [`ProcSlot::epoch`];
    /// meaningful if `count` > 0.
    pub key: u64,
    /// Which pages were hit.
    pub bitmap: u64,
    /// Kernel time of the first hit, jiffies: reading a finer clock at each fault would cost more than counting it.
    pub first_jiffies: u64,
    /// The same of the last hit.
    pub last_jiffies: u64,
    /// Number of hits, at least the number of bits.
    pub count: u64,
    /// First address of the mapping that the first hit was in, as the kernel had it; 0 if not known.
    pub vma_start: u64,
    /// The end of that mapping, exclusive.
    pub vma_end: u64,
}

/// Where the epoch begins in [`Window::key`]: user addresses have at most 57 bits, and a window has at least 18 of them.
pub const WINDOW_EPOCH_SHIFT: u32 = 48;

/// Bit of the kind in [`Window::key`]: the pages are in another process's memory, which this one wrote to.
pub const REMOTE: u64 = 1 << 7;

/// Bit of the kind in [`Window::key`]: a system call wrote to a page of this window's mapping, and it is not known which page
/// that was (see [`TaskSlot::is_unplaced`]). Only with [`crate::Config::pages`].
pub const UNPLACED: u64 = 1 << 6;

/// What a thread's last write fault may still become.
pub mod state {
    /// Nothing: no write fault since, or its outcome is already counted.
    pub const NONE: u8 = 0;
    /// Write-protect fault; an allocation inside it is a copy, none makes it reuse or shared.
    pub const WRITE_PROTECT: u8 = 1;
    /// Write to a page that is not mapped.
    pub const NOT_PRESENT: u8 = 2;
    /// The same, and a page was allocated; which mm counter moves next tells what for.
    pub const NOT_PRESENT_ALLOCATED: u8 = 3;
    /// The same, and the anonymous counter moved: a private file page, unless a swap entry goes next.
    pub const FILE_FIRST_WRITE: u8 = 4;
    /// A swapped-out page came back; an allocation that follows in the same fault is a copy.
    pub const SWAPPED_IN: u8 = 5;
    /// Write-protect fault that allocated a page, with [`super::flag::UNREAD`]: a copy of an anonymous page, unless the
    /// file counter moves next.
    pub const COPIED: u8 = 6;
    /// Write-protect fault that allocated a zeroed page: it comes in the place of the zero page if the anonymous counter moves
    /// next. If none does, another thread was copying the page just then, and this one found no entry for a moment.
    pub const ZEROED: u8 = 11;

    // The states above belong to the tracepoint backend, those below to the function backends.

    /// In `do_wp_page`: with [`super::flag::TRIED`], a page that is installed is a copy.
    pub const IN_WP_PAGE: u8 = 7;
    /// In `hugetlb_wp`.
    pub const IN_HUGETLB_WP: u8 = 8;
    /// In `do_swap_page`: a page that is installed is the one that was swapped out.
    pub const SWAPPING_IN: u8 = 9;
    /// In `kernel_clone`: a page that is installed in the child is a copy of a pinned one.
    pub const FORKING: u8 = 10;
}

/// Flags of [`TaskSlot::flags`].
pub mod flag {
    /// The fault was taken in kernel mode (a system call writing to user memory).
    pub const KERNEL_MODE: u8 = 1;
    /// The page was writable by the time the fault was seen: another thread solved it first.
    pub const SPURIOUS: u8 = 2;
    /// The page tables were not read: the page before in the same 2 MiB was a copy of an anonymous page, and so is this
    /// one, unless the rest of the fault tells otherwise.
    pub const UNREAD: u8 = 4;
    /// The page is in a large block of a file, which is unmapped first: the file counter moves once for that.
    pub const LARGE_FILE: u8 = 8;
    /// The memory is another process's.
    pub const REMOTE: u8 = 16;
    /// A copy is tried: `wp_page_copy` was entered, or a page was allocated for it.
    pub const TRIED: u8 = 32;
    /// `do_wp_page` may end with neither copy nor reuse.
    pub const MAY_END_EARLY: u8 = 64;
    /// The page is in the huge zero page: a huge page comes in its place, or, on older kernels and where there is none, it is
    /// split, and a single zero page is replaced.
    pub const HUGE_ZERO: u8 = 128;
}

/// One traced thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskSlot {
    /// Index of the process in the array of [`ProcSlot`]s.
    pub proc_index: u32,
    /// Thread id.
    pub tid: u32,
    /// One of [`state`].
    pub state: u8,
    /// The [`crate::Kind`] that a copy of the page would be, as the page tables told at fault entry.
    pub kind: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// log2 of the pages allocated in [`state::NOT_PRESENT_ALLOCATED`].
    pub order: u8,
    /// 1: traced since user space asked for it ([`crate::Adoption`]), and its creation was not seen.
    pub adopted: u32,
    /// One of [`crate::taking`]: where the fault's user stack is.
    pub stack: u32,
    /// Function backends: one of [`crate::mode`], of the present fault.
    pub mode: u8,
    /// 1: the present fault has copied or replaced a page; only if times are asked for.
    pub replaced: u8,
    /// 1: a [`crate::Fault`] waits for the end of the present fault; only if times are asked for.
    pub open: u8,
    /// Makes the layout explicit.
    pub reserved: u8,
    /// Tracepoint backend: instruction that faulted; 0 if there was no fault (see [`TaskSlot::is_unplaced`]). Function backends:
    /// instruction of user mode, if events are asked for.
    pub ip: u64,
    /// Address that it wrote to.
    pub address: u64,
    /// With [`flag::KERNEL_MODE`]: instruction of the system call around it.
    pub user_ip: u64,
    /// The same: number of the system call.
    pub user_orig_ax: u64,
    /// Page-table entry at that moment; 0 if not read.
    pub entry: u64,
    /// Which 2 MiB of addresses the last copy of an anonymous page was in, plus one; 0 if it was something else.
    pub near: u64,
    /// Which GiB of addresses [`TaskSlot::cached_table`] is for, plus one; 0 if there is none.
    pub cached_gib: u64,
    /// `mm->mm_lock_seq` when it was read: page tables are freed only by those who change it first.
    pub cached_seq: u64,
    /// Kernel address of the page-middle directory of that GiB.
    pub cached_table: u64,
    /// Function backends: kernel address of the fault's `struct vm_fault`, while the fault lasts.
    pub vmf: u64,
    /// The same of its `struct vm_area_struct`.
    pub vma: u64,
    /// When the fork in progress began, monotonic ns; 0 if there is none.
    pub clone_ns: u64,
    /// When the present fault began, monotonic ns, if events or times are asked for; 0 if that was not seen.
    pub begin_ns: u64,
    /// Faults not yet sent to user space.
    pub windows: [Window; WINDOWS],
}

/// One traced process: counters, and what a report needs even if every ring-buffer record were lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcSlot {
    /// Identity for the length of the session, from 1; PIDs are reused, this is not. 0: slot free.
    pub id: u64,
    /// [`ProcSlot::id`] of the process that forked it, 0 if that one was not traced.
    pub forked_from: u64,
    /// Monotonic time of creation, or of when tracing began, ns.
    pub start_ns: u64,
    /// Monotonic time of the exit of its last thread, ns; 0 while it lives.
    pub end_ns: u64,
    /// Faults by [`crate::Kind`].
    pub counts: [u64; KINDS],
    /// Pages that anonymous first touches brought in (more than the faults where huge pages come).
    pub anon_pages: u64,
    /// Traced threads that have not exited.
    pub threads: u64,
    /// Programs that it became: addresses of code mean something else in each.
    pub execs: u64,
    /// Number of the time since a fork by this process, or the end of what such a fork shared, whichever was last; see
    /// [`crate::EPOCHS_MIXED`]. Counted only if stacks or regions are.
    pub epoch: u64,
    /// 1: it was forked with a memory of its own, and has not become another program: it may share pages with its parent.
    pub shares_pages: u64,
    /// Process id.
    pub tgid: u32,
    /// Parent's process id at creation.
    pub ppid: u32,
    /// Wait status as the kernel keeps it.
    pub exit_code: u32,
    /// Index of the slot of the process that forked it; valid while that slot's id is `forked_from`.
    pub parent_index: u32,
    /// Command name.
    pub comm: [u8; COMM_LEN],
}

/// Session-wide state of the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Next never-used index in the array of [`TaskSlot`]s; index 0 means none.
    pub next_task: u64,
    /// The same for [`ProcSlot`]s.
    pub next_proc: u64,
    /// Next [`ProcSlot::id`].
    pub next_id: u64,
    /// Traced processes that live.
    pub live: u64,
    /// Ring-buffer records that found no room.
    pub lost_events: u64,
    /// Processes or threads that found no slot, and so were not counted.
    pub lost_tasks: u64,
    /// Faults that were counted, but whose address was lost.
    pub lost_regions: u64,
    /// Copies whose user stack could not be taken or kept.
    pub lost_stacks: u64,
    /// [`crate::Fault`]s that found no room.
    pub lost_faults: u64,
    /// Counts by stack that are in use.
    pub stack_counts: u64,
    /// Index of the slot of the process that the last [`crate::adoption::PROCESS`] began to trace; 0 if there was no room. Its
    /// thread may be gone when user space looks.
    pub adopted_proc: u64,
}

/// Function backends: what a write was for which no page was installed.
#[inline(always)]
pub fn without_page(state: u8, flags: u8) -> Option<Kind> {
    match state {
        state::IN_HUGETLB_WP => Some(Kind::HugetlbReuse),
        state::IN_WP_PAGE if flags & flag::TRIED != 0 => Some(Kind::Raced),
        state::IN_WP_PAGE if flags & flag::MAY_END_EARLY != 0 => None,
        state::IN_WP_PAGE => Some(Kind::Reuse),
        _ => None,
    }
}

const _: () = assert!(size_of::<Window>() == 56);
const _: () = assert!(size_of::<TaskSlot>() == 128 + WINDOWS * 56);
const _: () = assert!(size_of::<ProcSlot>() == 4 * 8 + KINDS * 8 + 5 * 8 + 4 * 4 + COMM_LEN);
const _: () = assert!(size_of::<Shared>() == 11 * 8);

impl TaskSlot {
    /// Makes the slot that of a new thread.
    #[inline(always)]
    pub fn take_over(&mut self, proc_index: u32, tid: u32) {
        *self = TaskSlot { proc_index, tid, ..TaskSlot::default() };
    }

    /// Tracepoint backend: whether [`TaskSlot::address`] is only the begin of what a system call was to populate.
    #[inline(always)]
    pub fn is_unplaced(&self) -> bool {
        self.ip == 0
    }
}

impl ProcSlot {
    /// Makes the slot that of a process that begins now, whose parent is not traced. Field by field: a whole one is too large
    /// for the stack of a program.
    #[inline(always)]
    pub fn take_over(&mut self, id: u64, now_ns: u64) {
        self.id = id;
        self.forked_from = 0;
        self.parent_index = 0;
        self.start_ns = now_ns;
        self.end_ns = 0;
        self.counts = [0; KINDS];
        self.anon_pages = 0;
        self.threads = 1;
        self.execs = 0;
        self.epoch = 0;
        self.shares_pages = 0;
        self.exit_code = 0;
    }
}
