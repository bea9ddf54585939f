//! fentry programs on the kernel's copy functions. User space names the function when it loads them, as kernels differ.

use aya_ebpf::{EbpfContext as _, helpers::bpf_ktime_get_ns, macros::fentry, programs::FEntryContext};

use crate::{
    config,
    fault::functions::{self, Place},
};

#[fentry]
fn fentry_wp_page(ctx: FEntryContext) -> i32 {
    functions::write_protect(ctx.arg(0));
    0
}

#[fentry]
fn fentry_wp_copy(_ctx: FEntryContext) -> i32 {
    functions::copy_tried();
    0
}

#[fentry]
fn fentry_alloc(ctx: FEntryContext) -> i32 {
    functions::allocated(Place { vma: ctx.arg(2), address: ctx.arg(3) });
    0
}

#[fentry]
fn fentry_mm_fault(ctx: FEntryContext) -> i32 {
    functions::fault_begins(ctx.as_ptr(), ctx.arg(2));
    0
}

#[fentry]
fn fentry_new_anon(ctx: FEntryContext) -> i32 {
    functions::installed(ctx.as_ptr(), ctx.arg(0), Place { vma: ctx.arg(1), address: ctx.arg(2) });
    0
}

#[fentry]
fn fentry_swap_page(ctx: FEntryContext) -> i32 {
    functions::swapping_in(ctx.arg(0));
    0
}

#[fentry]
fn fentry_hugetlb_fault(_ctx: FEntryContext) -> i32 {
    functions::hugetlb_begins();
    0
}

#[fentry]
fn fentry_hugetlb_wp(ctx: FEntryContext) -> i32 {
    // Only these of the arguments exist on every kernel, so each branch reads its own.
    match config!(hugetlb_wp_vmf) {
        1 => functions::hugetlb_fault(ctx.arg(0)),
        2 => functions::hugetlb_fault(ctx.arg(1)),
        _ => functions::hugetlb_write(Place { vma: ctx.arg(1), address: ctx.arg(2) }, 0),
    }
    0
}

#[fentry]
fn fentry_hugetlb_new(ctx: FEntryContext) -> i32 {
    functions::hugetlb_installed(ctx.as_ptr(), Place { vma: ctx.arg(1), address: ctx.arg(2) });
    0
}

#[fentry]
fn fentry_huge_split(ctx: FEntryContext) -> i32 {
    functions::huge_split(Place { vma: ctx.arg(0), address: ctx.arg(2) });
    0
}

#[fentry]
fn fentry_clone(ctx: FEntryContext) -> i32 {
    // SAFETY: no preconditions.
    functions::forking(ctx.as_ptr(), unsafe { bpf_ktime_get_ns() });
    0
}
