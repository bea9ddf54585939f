//! Reading kernel memory: fields at offsets known at run time, and raw addresses.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user,
};

/// Reads a field behind a BTF pointer: a plain load, checked by the verifier against the kernel's own types.
///
/// # Safety
/// `base` must be a pointer that the verifier knows the type of, `offset` a constant from [`cowtrace_abi::Config`],
/// and `T` must have the size of the field.
#[inline(always)]
pub unsafe fn field<T: Copy>(base: *const c_void, offset: u64) -> T {
    // SAFETY: the verifier turns the load into one that yields 0 on a bad address.
    unsafe { core::ptr::read_volatile(base.byte_add(offset as usize).cast::<T>()) }
}

/// The current task, as a BTF pointer (Linux 5.11 and later).
#[inline(always)]
pub fn current() -> *const c_void {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf().cast_const().cast() }
}

/// The current task, as an address for [`kernel`].
#[inline(always)]
pub fn current_address() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// Reads kernel memory at a computed address; `None` if there is none.
#[inline(always)]
pub fn kernel<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address and fills the whole buffer or fails.
    let ret = unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void)
    };
    // SAFETY: filled, as the helper succeeded.
    (ret == 0).then(|| unsafe { value.assume_init() })
}

/// Reads user memory of the current process; whether it is there, and just now.
#[inline(always)]
pub fn user_into(words: &mut [u64], address: u64) -> bool {
    let size = size_of_val(words) as u32;
    // SAFETY: the helper checks the address and writes at most the size given.
    unsafe { bpf_probe_read_user(words.as_mut_ptr().cast(), size, address as *const c_void) == 0 }
}
