//! kprobes on the same functions, for kernels without fentry; and processes followed in ways that nothing preempts.
//!
//! What perf runs (kprobes and its tracepoints), it runs with preemption off. BTF tracepoints and fentry programs can be
//! preempted on newer kernels, which then skip the same program for other threads on that CPU.

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, tracepoint},
    programs::{ProbeContext, TracePointContext},
};

use crate::{
    atomic::{Fetching, Locking},
    config,
    fault::functions::{self, Place},
    life, read,
};

#[inline(always)]
fn arg(ctx: &ProbeContext, n: usize) -> u64 {
    ctx.arg(n).unwrap_or(0)
}

#[kprobe]
fn kprobe_wp_page(ctx: ProbeContext) -> u32 {
    functions::write_protect(arg(&ctx, 0));
    0
}

#[kprobe]
fn kprobe_wp_copy(_ctx: ProbeContext) -> u32 {
    functions::copy_tried();
    0
}

#[kprobe]
fn kprobe_alloc(ctx: ProbeContext) -> u32 {
    functions::allocated(Place { vma: arg(&ctx, 2), address: arg(&ctx, 3) });
    0
}

#[kprobe]
fn kprobe_mm_fault(ctx: ProbeContext) -> u32 {
    functions::fault_begins(ctx.as_ptr(), arg(&ctx, 2) as u32);
    0
}

#[kprobe]
fn kprobe_new_anon(ctx: ProbeContext) -> u32 {
    functions::installed(ctx.as_ptr(), arg(&ctx, 0), Place { vma: arg(&ctx, 1), address: arg(&ctx, 2) });
    0
}

#[kprobe]
fn kprobe_swap_page(ctx: ProbeContext) -> u32 {
    functions::swapping_in(arg(&ctx, 0));
    0
}

#[kprobe]
fn kprobe_hugetlb_fault(_ctx: ProbeContext) -> u32 {
    functions::hugetlb_begins();
    0
}

#[kprobe]
fn kprobe_hugetlb_wp(ctx: ProbeContext) -> u32 {
    match config!(hugetlb_wp_vmf) {
        1 => functions::hugetlb_fault(arg(&ctx, 0)),
        2 => functions::hugetlb_fault(arg(&ctx, 1)),
        _ => functions::hugetlb_write(Place { vma: arg(&ctx, 1), address: arg(&ctx, 2) }, 0),
    }
    0
}

#[kprobe]
fn kprobe_hugetlb_new(ctx: ProbeContext) -> u32 {
    functions::hugetlb_installed(ctx.as_ptr(), Place { vma: arg(&ctx, 1), address: arg(&ctx, 2) });
    0
}

#[kprobe]
fn kprobe_huge_split(ctx: ProbeContext) -> u32 {
    functions::huge_split(Place { vma: arg(&ctx, 0), address: arg(&ctx, 2) });
    0
}

#[kprobe]
fn kprobe_clone(ctx: ProbeContext) -> u32 {
    // SAFETY: no preconditions.
    functions::forking(ctx.as_ptr(), unsafe { bpf_ktime_get_ns() });
    0
}

/// `wake_up_new_task`: the child is complete and has not run yet.
#[kprobe]
fn kprobe_new_task(ctx: ProbeContext) -> u32 {
    let child = arg(&ctx, 0);
    life::fork::<Fetching, _>(&ctx, child, life::clone_flags(child));
    0
}

/// The same for kernels without atomic fetch operations.
#[kprobe]
fn kprobe_new_task_locked(ctx: ProbeContext) -> u32 {
    let child = arg(&ctx, 0);
    life::fork::<Locking, _>(&ctx, child, life::clone_flags(child));
    0
}

/// Reads a field of a tracepoint's record.
#[inline(always)]
fn field<T: Copy>(ctx: &TracePointContext, offset: u64) -> Option<T> {
    read::kernel(ctx.as_ptr() as u64 + offset)
}

#[tracepoint]
fn perf_exec(ctx: TracePointContext) -> u32 {
    if let Some(old_tid) = field(&ctx, config!(exec_old_pid)) {
        life::exec(old_tid);
    }
    0
}

#[tracepoint]
fn perf_rename(_ctx: TracePointContext) -> u32 {
    life::renamed();
    0
}

#[tracepoint]
fn perf_exit(ctx: TracePointContext) -> u32 {
    life::exit::<Fetching, _>(&ctx);
    0
}

/// The same for kernels without atomic fetch operations.
#[tracepoint]
fn perf_exit_locked(ctx: TracePointContext) -> u32 {
    life::exit::<Locking, _>(&ctx);
    0
}

#[tracepoint]
fn perf_signal(ctx: TracePointContext) -> u32 {
    let target: Option<u32> = field(&ctx, config!(signal_pid));
    let signal: u32 = field(&ctx, config!(signal_sig)).unwrap_or(0);
    functions::signal(
        ctx.as_ptr(),
        signal.into(),
        field(&ctx, config!(signal_code)),
        target == Some(crate::maps::current_tid()),
    );
    0
}
