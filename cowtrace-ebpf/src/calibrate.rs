//! Finding the direct map and the page descriptors, which KASLR moves and few kernels name.
//!
//! The caller puts a magic number into a page of its own whose frame it knows. The direct map begins at the 1 GiB step
//! below a known pointer from which that frame shows the number; the descriptors begin where the descriptor of that
//! frame is that of an anonymous page with that address. Nothing is guessed: a final walk must give the frame.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_jiffies64, bpf_ktime_get_ns};
use cowtrace_abi::{CALIBRATION_STEPS, Calibration, CalibrationRequest};

use crate::{config, maps::CALIBRATION, read, walk};

const GIB: u64 = 1 << 30;

/// Runs one batch of steps; writes to [`CALIBRATION`] what it finds. Without levels to walk, that is the time.
#[inline(always)]
pub fn calibrate(request: &CalibrationRequest) -> Option<()> {
    let slot = CALIBRATION.get_ptr_mut(0)?;
    // SAFETY: points into CALIBRATION; only this program writes to it.
    let found = unsafe { &mut *slot };
    // SAFETY: no preconditions.
    let task = unsafe { bpf_get_current_task() };
    // SAFETY: no preconditions.
    (found.base_jiffies, found.base_ns) = unsafe { (bpf_jiffies64(), bpf_ktime_get_ns()) };
    if request.levels == 0 {
        return None;
    }
    found.zero_pfn = request.zero_pfn;
    found.phys_mask = request.phys_mask;
    found.levels = request.levels;
    if found.direct_map == 0 {
        // task_struct is a slab object, so it lies in the direct map.
        found.direct_map = search(task, request.first_step, |base| {
            read::kernel::<u64>(base + (request.pfn << config!(page_shift))) == Some(request.magic)
        })?;
    }
    // The kernel stack lies in vmalloc space; its vm_struct names the page descriptors behind it.
    let area: u64 = read::kernel(task + config!(task_stack_vm_area))?;
    let pages: u64 = read::kernel(area + config!(vm_struct_pages))?;
    let page: u64 = read::kernel(pages)?;
    let descriptor = request.pfn * config!(page_struct_size);
    found.vmemmap = search(page, 0, |base| {
        read::kernel::<u64>(base + descriptor + config!(page_mapping)).is_some_and(|m| m & 3 == 1)
            && read::kernel::<u64>(base + descriptor + config!(page_index))
                == Some(request.address >> config!(page_shift))
    })?;
    let mm: u64 = read::kernel(task + config!(task_mm))?;
    let pgd: u64 = read::kernel(mm + config!(mm_pgd))?;
    let known: Calibration = *found;
    let leaf = walk::walk(&known, pgd, request.address)?;
    found.trusted = u64::from(leaf.pfn(&known, request.address) == request.pfn);
    Some(())
}

#[inline(always)]
fn search(from: u64, first_step: u64, is_base: impl Fn(u64) -> bool) -> Option<u64> {
    let top = from & !(GIB - 1);
    for step in 0..CALIBRATION_STEPS {
        let base = top - (first_step + step) * GIB;
        if is_base(base) {
            return Some(base);
        }
    }
    None
}
