//! What user space tells the programs before they are loaded: switches, and where the running kernel keeps
//! the fields that they read.

/// Read-only data of the eBPF object, frozen at load time.
///
/// The verifier sees these as constants: an offset added to a BTF pointer stays a checked field access, and a
/// branch on a switch that is off is removed. Offsets are bytes, read from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// 1: addresses are kept, so that faults can be attributed to mappings.
    pub regions: u64,
    /// 1: the user stacks of copying faults are counted.
    pub stacks: u64,
    /// 1: each fault that puts a page in the place of another is told with its page; with [`Config::regions`] only.
    pub pages: u64,
    /// Kinds of which each fault is told in a record of its own: bit n stands for the [`crate::Kind`] n.
    pub events: u64,
    /// 1: it is measured how long copies take.
    pub times: u64,
    /// log2 of the bytes per page.
    pub page_shift: u64,
    /// `___GFP_MOVABLE` as a mask.
    pub gfp_movable: u64,
    /// `___GFP_ZERO` as a mask.
    pub gfp_zero: u64,
    /// `MM_FILEPAGES`, `MM_ANONPAGES`, `MM_SWAPENTS`, `MM_SHMEMPAGES` of the kernel's unnamed enum.
    pub mm_filepages: u64,
    /// See [`Config::mm_filepages`].
    pub mm_anonpages: u64,
    /// See [`Config::mm_filepages`].
    pub mm_swapents: u64,
    /// See [`Config::mm_filepages`].
    pub mm_shmempages: u64,
    /// `task_struct.pid`: the thread id in the initial PID namespace.
    pub task_pid: u64,
    /// `task_struct.tgid`.
    pub task_tgid: u64,
    /// `task_struct.real_parent`.
    pub task_real_parent: u64,
    /// `task_struct.mm`.
    pub task_mm: u64,
    /// `task_struct.exit_code`.
    pub task_exit_code: u64,
    /// `task_struct.stack_vm_area`.
    pub task_stack_vm_area: u64,
    /// `vm_struct.pages`.
    pub vm_struct_pages: u64,
    /// `mm_struct.pgd`.
    pub mm_pgd: u64,
    /// `mm_struct.pgtables_bytes`.
    pub mm_pgtables_bytes: u64,
    /// `mm_struct.flags`.
    pub mm_flags: u64,
    /// `mm_struct.mm_lock_seq`, 0 where the kernel has none.
    pub mm_lock_seq: u64,
    /// `mm_struct.arg_start`.
    pub mm_arg_start: u64,
    /// `mm_struct.arg_end`.
    pub mm_arg_end: u64,
    /// `pt_regs.ip`.
    pub regs_ip: u64,
    /// `pt_regs.sp`.
    pub regs_sp: u64,
    /// `pt_regs.bp`.
    pub regs_bp: u64,
    /// `pt_regs.orig_ax`.
    pub regs_orig_ax: u64,
    /// `pt_regs.di`: the first argument of a system call.
    pub regs_di: u64,
    /// `sizeof(struct page)`.
    pub page_struct_size: u64,
    /// `page.compound_head` (`compound_info` on 7.2).
    pub page_compound_head: u64,
    /// `page.mapping`.
    pub page_mapping: u64,
    /// `page.index` (`__folio_index` since 6.16).
    pub page_index: u64,
    /// `page.page_type`.
    pub page_type: u64,
    /// `PGTY_hugetlb`: the top byte of `page_type` of a hugetlb folio; 0 where the kernel has no such type.
    pub pgty_hugetlb: u64,
    /// `kernel_siginfo.si_code`.
    pub siginfo_si_code: u64,
    /// 1: the hooks are the kernel's functions (fentry, kprobe), 0: its tracepoints.
    pub functions: u64,
    /// Which argument of `hugetlb_wp` is its `struct vm_fault`, from 1; 0 where it has none.
    pub hugetlb_wp_vmf: u64,
    /// `vm_fault.vma`.
    pub vmf_vma: u64,
    /// `vm_fault.address`.
    pub vmf_address: u64,
    /// `vm_fault.flags`.
    pub vmf_flags: u64,
    /// `vm_fault.page`.
    pub vmf_page: u64,
    /// `vm_area_struct.vm_start`.
    pub vma_start: u64,
    /// `vm_area_struct.vm_end`.
    pub vma_end: u64,
    /// `vm_area_struct.vm_flags`.
    pub vma_flags: u64,
    /// `vm_area_struct.vm_mm`.
    pub vma_mm: u64,
    /// `vm_area_struct.vm_ops`.
    pub vma_ops: u64,
    /// `page.flags`.
    pub page_flags: u64,
    /// `PG_head` as a mask.
    pub page_head_flag: u64,
    /// The byte that holds log2 of a folio's pages, from the descriptor of its first page.
    pub folio_order: u64,
    /// What the processor told of the last fault: `thread_struct.error_code`, in `task_struct`.
    pub task_error_code: u64,
    /// The same: `thread_struct.cr2`.
    pub task_fault_address: u64,
    /// In the error code: the access was a write.
    pub error_write: u64,
    /// `task_struct.group_leader`.
    pub task_group_leader: u64,
    /// `task_struct.vfork_done`.
    pub task_vfork_done: u64,
    /// `trace_event_raw_sched_process_exec.old_pid`.
    pub exec_old_pid: u64,
    /// `task_struct.thread_pid`; 0: not known, as the three that follow.
    pub task_thread_pid: u64,
    /// `struct pid.level`.
    pub pid_level: u64,
    /// `struct pid.numbers`, an array of `struct upid`, which begins with the number.
    pub pid_numbers: u64,
    /// Size of `struct upid`.
    pub upid_size: u64,
    /// `trace_event_raw_signal_generate.sig`.
    pub signal_sig: u64,
    /// The same: `code`.
    pub signal_code: u64,
    /// The same: `pid`.
    pub signal_pid: u64,
}

/// What is found out about the running kernel while the programs are being loaded. Where the direct map and the page
/// descriptors lie is found by `calibrate`, and zero until then.
///
/// KASLR moves both, and kernels without `CONFIG_KALLSYMS_ALL` do not tell. Without them the page tables cannot
/// be read, and the kinds that need it are unknown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// Kernel address of physical address 0 (`page_offset_base`).
    pub direct_map: u64,
    /// Kernel address of the descriptor of frame 0 (`vmemmap_base`).
    pub vmemmap: u64,
    /// Frame number of the shared zero page.
    pub zero_pfn: u64,
    /// Mask of the physical address in a page-table entry.
    pub phys_mask: u64,
    /// Page-table levels: 4 or 5.
    pub levels: u64,
    /// 1 when a walk of a known page gave its known frame: only then are the walks trusted.
    pub trusted: u64,
    /// jiffies at [`Calibration::base_ns`].
    pub base_jiffies: u64,
    /// Monotonic time, ns.
    pub base_ns: u64,
    /// Start of the page-fault entry in the kernel's text, from kallsyms; 0 where unknown.
    pub page_fault_start: u64,
    /// Its end, exclusive.
    pub page_fault_end: u64,
    /// The same of `do_wp_page`.
    pub do_wp_page_start: u64,
    /// Its end, exclusive.
    pub do_wp_page_end: u64,
}

impl Calibration {
    /// Kernel address of the table that an entry points to.
    #[inline(always)]
    pub fn table(&self, entry: u64) -> u64 {
        self.direct_map + (entry & self.phys_mask)
    }
}

/// What `calibrate` is asked: the arguments of one `BPF_PROG_TEST_RUN` of a raw tracepoint program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CalibrationRequest {
    /// User address of a page of the caller, page aligned, which holds `magic` in its first 8 bytes.
    pub address: u64,
    /// The frame of that page, from `/proc/self/pagemap`.
    pub pfn: u64,
    /// The 8 bytes to look for.
    pub magic: u64,
    /// Frame of the zero page.
    pub zero_pfn: u64,
    /// Mask of the physical address in a page-table entry.
    pub phys_mask: u64,
    /// Page-table levels; 0: only the clock is asked for.
    pub levels: u64,
    /// Number of 1 GiB steps already tried by earlier runs.
    pub first_step: u64,
}

/// What `adopt` is asked: the arguments of one `BPF_PROG_TEST_RUN` of a raw tracepoint program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// One of [`adoption`].
    pub what: u64,
    /// Thread id.
    pub tid: u64,
    /// Process id.
    pub tgid: u64,
    /// Process id of the parent.
    pub ppid: u64,
    /// Index of the process's slot; 0 for [`adoption::PROCESS`].
    pub proc_index: u64,
    /// Command name, as in the slot.
    pub comm: [u64; 2],
}

/// Values of [`Adoption::what`].
pub mod adoption {
    /// Trace this thread as the first one of its process, and hold the process's slot.
    pub const PROCESS: u64 = 0;
    /// Trace this thread of a process that is held.
    pub const THREAD: u64 = 1;
    /// This thread has exited, perhaps before it was traced.
    pub const GONE: u64 = 2;
    /// Hold the process's slot no longer: it is given back with its last thread.
    pub const RELEASE: u64 = 3;
}

/// Steps of 1 GiB that one run of `calibrate` tries.
pub const CALIBRATION_STEPS: u64 = 16;

const _: () = assert!(size_of::<Config>() == 64 * 8);
const _: () = assert!(size_of::<Calibration>() == 12 * 8);
const _: () = assert!(size_of::<CalibrationRequest>() == 7 * 8);
const _: () = assert!(size_of::<Adoption>() == 7 * 8);

impl Config {
    /// All zero: what the object holds until user space fills it.
    pub const ZERO: Config = {
        // SAFETY: only integers.
        unsafe { core::mem::zeroed() }
    };
}
