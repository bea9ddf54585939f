//! BTF tracepoints: the hooks of the tracepoint backend, and those that every backend needs to follow processes.
//!
//! | program | hook | figures |
//! |---|---|---|
//! | `fault_user`, `fault_kernel` | `exceptions:page_fault_user`, `_kernel` | entry of every fault |
//! | `page_alloc` | `kmem:mm_page_alloc` | copy, zero, file after read, ksm, anon |
//! | `rss_stat` | `kmem:rss_stat` | file first write, huge anon, swap-in |
//! | `signal_sent` | `signal:signal_generate` | denied |
//! | `task_new`, `task_exec`, `task_exit` | `task:task_newtask`, `sched:sched_process_exec`, `_exit` | processes |
//! | `task_rename` | `task:task_rename` | which program it is that an exec writes to |

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, perf_event, raw_tracepoint},
    programs::{BtfTracePointContext, PerfEventContext, RawTracePointContext},
};
use cowtrace_abi::{Adoption, CalibrationRequest};

use crate::{
    adopt::adopt,
    atomic::{Fetching, Locking},
    calibrate::calibrate,
    config,
    fault::{functions, tracepoints as fault},
    latency, life, read,
};

/// The faulting instruction, from the registers that the tracepoint passes.
#[inline(always)]
fn faulting_ip(ctx: &BtfTracePointContext) -> u64 {
    // SAFETY: argument 1 of both page-fault tracepoints is `struct pt_regs *`.
    unsafe { read::field(ctx.arg::<*const c_void>(1), config!(regs_ip)) }
}

#[btf_tracepoint(function = "page_fault_user")]
fn fault_user(ctx: BtfTracePointContext) -> i32 {
    fault::enter(ctx.as_ptr(), ctx.arg(0), faulting_ip(&ctx), ctx.arg(2), false);
    0
}

#[btf_tracepoint(function = "page_fault_kernel")]
fn fault_kernel(ctx: BtfTracePointContext) -> i32 {
    fault::enter(ctx.as_ptr(), ctx.arg(0), faulting_ip(&ctx), ctx.arg(2), true);
    0
}

#[btf_tracepoint(function = "mm_page_alloc")]
fn page_alloc(ctx: BtfTracePointContext) -> i32 {
    fault::allocate(ctx.as_ptr(), ctx.arg(1), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "rss_stat")]
fn rss_stat(ctx: BtfTracePointContext) -> i32 {
    fault::rss_moved(ctx.as_ptr(), ctx.arg(0), ctx.arg::<u32>(1).into());
    0
}

#[btf_tracepoint(function = "signal_generate")]
fn signal_sent(ctx: BtfTracePointContext) -> i32 {
    let target: u64 = ctx.arg::<*const c_void>(2) as u64;
    fault::signal(
        ctx.arg::<u32>(0).into(),
        ctx.arg::<*const c_void>(1) as u64,
        target == read::current() as u64,
    );
    0
}

#[btf_tracepoint(function = "task_newtask")]
fn task_new(ctx: BtfTracePointContext) -> i32 {
    life::fork::<Fetching, _>(&ctx, ctx.arg(0), ctx.arg(1));
    0
}

/// The same for kernels without atomic fetch operations.
#[btf_tracepoint(function = "task_newtask")]
fn task_new_locked(ctx: BtfTracePointContext) -> i32 {
    life::fork::<Locking, _>(&ctx, ctx.arg(0), ctx.arg(1));
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
fn task_exec(ctx: BtfTracePointContext) -> i32 {
    life::exec(ctx.arg(1));
    0
}

#[btf_tracepoint(function = "task_rename")]
fn task_rename(_ctx: BtfTracePointContext) -> i32 {
    life::renamed();
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn task_exit(ctx: BtfTracePointContext) -> i32 {
    life::exit::<Fetching, _>(&ctx);
    0
}

/// The same for kernels without atomic fetch operations.
#[btf_tracepoint(function = "sched_process_exit")]
fn task_exit_locked(ctx: BtfTracePointContext) -> i32 {
    life::exit::<Locking, _>(&ctx);
    0
}

/// For the function backends: the same event, without what only the tracepoint backend's faults know.
#[btf_tracepoint(function = "signal_generate")]
fn signal_sent_plain(ctx: BtfTracePointContext) -> i32 {
    let info: u64 = ctx.arg::<*const c_void>(1) as u64;
    let target: u64 = ctx.arg::<*const c_void>(2) as u64;
    let code = read::kernel(info + config!(siginfo_si_code));
    functions::signal(ctx.as_ptr(), ctx.arg::<u32>(0).into(), code, target == read::current_address());
    0
}

/// On the software events for faults that were solved, without and with I/O (`PERF_COUNT_SW_PAGE_FAULTS_MIN`, `_MAJ`), of every
/// backend.
#[perf_event]
fn fault_end(_ctx: PerfEventContext) -> u32 {
    latency::end();
    0
}

/// Never attached: user space runs it with `BPF_PROG_TEST_RUN`.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn calibrate_walk(ctx: RawTracePointContext) -> i32 {
    let request = CalibrationRequest {
        address: ctx.arg(0),
        pfn: ctx.arg(1),
        magic: ctx.arg(2),
        zero_pfn: ctx.arg(3),
        phys_mask: ctx.arg(4),
        levels: ctx.arg(5),
        first_step: ctx.arg(6),
    };
    i32::from(calibrate(&request).is_some())
}

#[inline(always)]
fn adoption(ctx: &RawTracePointContext) -> Adoption {
    Adoption {
        what: ctx.arg(0),
        tid: ctx.arg(1),
        tgid: ctx.arg(2),
        ppid: ctx.arg(3),
        proc_index: ctx.arg(4),
        comm: [ctx.arg(5), ctx.arg(6)],
    }
}

/// Never attached: user space runs it with `BPF_PROG_TEST_RUN`.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn adopt_thread(ctx: RawTracePointContext) -> i32 {
    i32::from(adopt::<Fetching>(&adoption(&ctx)))
}

/// The same for kernels without atomic fetch operations.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn adopt_thread_locked(ctx: RawTracePointContext) -> i32 {
    i32::from(adopt::<Locking>(&adoption(&ctx)))
}
