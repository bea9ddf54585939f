//! What of a kernel is frozen: every name that cowtrace, or a choice of it, looks for.

/// Files of a kernel that are read, as they are called below the root. Not each kernel has all.
pub const FILES: [&str; 8] = [BTF, SYMBOLS, TRACEABLE, RELEASE, VERSION, ARCH, PREEMPTION, SMAPS];
/// The kernel's types.
pub const BTF: &str = "sys/kernel/btf/vmlinux";
/// Its symbols.
pub const SYMBOLS: &str = "proc/kallsyms";
/// Functions that ftrace, and so fentry, can be attached to.
pub const TRACEABLE: &str = "sys/kernel/tracing/available_filter_functions";
/// What `uname -r` says.
pub const RELEASE: &str = "proc/sys/kernel/osrelease";
/// What `uname -v` says: with Debian, it names the package's version.
pub const VERSION: &str = "proc/sys/kernel/version";
/// What `uname -m` says (a file since 6.1).
pub const ARCH: &str = "proc/sys/kernel/arch";
/// Which preemption models there are, and in brackets the one in use (since 5.13).
pub const PREEMPTION: &str = "sys/kernel/debug/sched/preempt";
/// Mappings of the process that reads it: the size of pages is there, and needs no program to be told.
pub const SMAPS: &str = "proc/self/smaps";

/// Directory of the descriptions of tracepoints.
pub const EVENTS: &str = "sys/kernel/tracing/events";
/// Tracepoints, with their group.
pub const TRACEPOINTS: [&str; 9] = [
    "exceptions/page_fault_kernel",
    "exceptions/page_fault_user",
    "kmem/mm_page_alloc",
    "kmem/rss_stat",
    "sched/sched_process_exec",
    "sched/sched_process_exit",
    "signal/signal_generate",
    "task/task_newtask",
    "task/task_rename",
];

/// Structs and unions whose members are kept. All others keep their name and size only.
pub const STRUCTS: [&str; 20] = [
    "folio",
    "kernel_clone_args",
    "kernel_siginfo",
    "mm_rss_stat",
    "mm_struct",
    "page",
    "pt_regs",
    "signal_struct",
    "task_rss_stat",
    "task_struct",
    "thread_info",
    "thread_struct",
    "trace_entry",
    "trace_event_raw_sched_process_exec",
    "trace_event_raw_signal_generate",
    "trace_event_raw_task_newtask",
    "user_pt_regs",
    "vm_area_struct",
    "vm_fault",
    "vm_struct",
];

/// Enums are kept whole if they have one of these: some of them have no name.
pub const ENUMERATORS: [&str; 9] = [
    "FAULT_FLAG_WRITE",
    "MM_SWAPENTS",
    "PGTY_hugetlb",
    "PG_head",
    "VMA_SHARED_BIT",
    "VM_FAULT_OOM",
    "X86_PF_WRITE",
    "___GFP_MOVABLE_BIT",
    "___GFP_ZERO_BIT",
];

/// Functions: their prototypes are kept, and their place among the symbols.
pub const FUNCTIONS: [&str; 62] = [
    "__bad_area_nosemaphore",
    "__do_fault",
    "__get_user_pages",
    "__handle_mm_fault",
    "__split_huge_pmd",
    "alloc_pages_vma",
    "asm_exc_page_fault",
    "bad_area",
    "bad_area_nosemaphore",
    "begin_new_exec",
    "copy_hugetlb_page_range",
    "copy_page_range",
    "copy_present_page",
    "copy_process",
    "do_anonymous_page",
    "do_cow_fault",
    "do_exit",
    "do_fault",
    "do_huge_pmd_wp_page",
    "do_mem_abort",
    "do_page_fault",
    "do_set_pte",
    "do_swap_page",
    "do_user_addr_fault",
    "do_wp_page",
    "dup_mm",
    "dup_mmap",
    "el0_da",
    "el0t_64_sync",
    "el0t_64_sync_handler",
    "el1_abort",
    "el1h_64_sync",
    "exc_page_fault",
    "exit_mmap",
    "faultin_page",
    "finish_fault",
    "finish_mkwrite_fault",
    "fixup_user_fault",
    "folio_add_anon_rmap_ptes",
    "folio_add_new_anon_rmap",
    "folio_move_anon_rmap",
    "handle_mm_fault",
    "hugepage_add_new_anon_rmap",
    "hugetlb_add_new_anon_rmap",
    "hugetlb_cow",
    "hugetlb_fault",
    "hugetlb_no_page",
    "hugetlb_wp",
    "kernel_clone",
    "ksm_might_need_to_copy",
    "mm_release",
    "page_add_new_anon_rmap",
    "page_move_anon_rmap",
    "set_pte_range",
    "split_huge_pmd_locked",
    "vma_alloc_folio",
    "vma_alloc_folio_noprof",
    "wake_up_new_task",
    "wp_page_copy",
    "wp_page_reuse",
    "wp_page_shared",
    "wp_pfn_shared",
];

/// Other symbols: where the text begins, and variables, which not all kernels list.
pub const OTHER_SYMBOLS: [&str; 4] = ["_stext", "page_offset_base", "swapper_pg_dir", "vmemmap_base"];
