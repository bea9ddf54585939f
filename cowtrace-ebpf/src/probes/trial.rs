//! Programs that do nothing: whether a hook works on a kernel is learnt by attaching one.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

#[fentry(function = "do_wp_page")]
fn try_fentry(_ctx: FEntryContext) -> i32 {
    0
}

#[kprobe]
fn try_kprobe(_ctx: ProbeContext) -> u32 {
    0
}
