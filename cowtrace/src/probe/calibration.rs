//! Lets the eBPF side find the direct map and the page descriptors, with a page of our own as the known point.

use std::{fs::File, os::unix::fs::FileExt as _, ptr::NonNull};

use aya::{
    TestRun as _,
    programs::{RawTracePoint, RawTracePointRunOptions},
};
use cowtrace_abi::{CALIBRATION_STEPS, Calibration, CalibrationRequest};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::kernel::{Paging, page_size};

/// Batches of [`CALIBRATION_STEPS`] GiB: enough for 64 TiB, the most that four-level paging maps.
const BATCHES: u64 = (64 << 10) / CALIBRATION_STEPS;

/// Two anonymous pages: one written, one only read.
struct KnownPages {
    base: NonNull<libc::c_void>,
    length: usize,
}

impl KnownPages {
    fn map() -> Option<KnownPages> {
        let length = usize::try_from(page_size()).ok()? * 2;
        let size = std::num::NonZeroUsize::new(length)?;
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let base = unsafe {
            mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }
        .ok()?;
        Some(KnownPages { base, length })
    }

    fn address(&self, page: u64) -> u64 {
        self.base.as_ptr() as u64 + page * page_size()
    }

    fn write(&self, page: u64, value: u64) {
        // SAFETY: inside the mapping, aligned.
        unsafe { std::ptr::write_volatile(self.address(page) as *mut u64, value) }
    }

    fn read(&self, page: u64) -> u64 {
        // SAFETY: as above.
        unsafe { std::ptr::read_volatile(self.address(page) as *const u64) }
    }
}

impl Drop for KnownPages {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, used by nobody else. A failure leaves two pages mapped.
        let _ = unsafe { munmap(self.base, self.length) };
    }
}

/// The frame behind an address of this process, from pagemap; `None` where it is hidden.
fn frame_of(address: u64) -> Option<u64> {
    const PRESENT: u64 = 1 << 63;
    const PFN: u64 = (1 << 55) - 1;
    let mut entry = [0; 8];
    File::open("/proc/self/pagemap").ok()?.read_exact_at(&mut entry, address / page_size() * 8).ok()?;
    let entry = u64::from_ne_bytes(entry);
    (entry & PRESENT != 0 && entry & PFN != 0).then_some(entry & PFN)
}

/// Runs the search; walks can be trusted only if the result says so. `state` reads what the program has found. An error
/// means that the program does not run at all.
pub(super) fn calibrate(
    program: &mut RawTracePoint,
    state: impl Fn() -> Calibration,
) -> Result<Calibration, String> {
    if let Err(reason) = search(program, &state) {
        tracing::warn!("page tables cannot be read ({reason}): some kinds will be unknown");
        read_clock(program, &state)?;
    }
    Ok(state())
}

/// Lets the program tell the kernel's clock only.
pub(super) fn read_clock(
    program: &mut RawTracePoint,
    state: impl Fn() -> Calibration,
) -> Result<Calibration, String> {
    run(program, &CalibrationRequest::default())?;
    Ok(state())
}

fn run(program: &mut RawTracePoint, request: &CalibrationRequest) -> Result<(), String> {
    let mut options = RawTracePointRunOptions::new();
    let args = [
        request.address,
        request.pfn,
        request.magic,
        request.zero_pfn,
        request.phys_mask,
        request.levels,
        request.first_step,
    ];
    options.args[..args.len()].copy_from_slice(&args);
    program.test_run(options).map_err(|error| super::ProbeError::kernels_answer(&error))?;
    Ok(())
}

fn search(program: &mut RawTracePoint, state: &impl Fn() -> Calibration) -> Result<(), String> {
    let paging = Paging::of_running_machine().ok_or("their layout is not known on this processor")?;
    let pages = KnownPages::map().ok_or("no memory for a test page")?;
    // Unlikely anywhere else in memory: the address of the page mixed with the time.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let magic = (now.as_nanos() as u64 ^ pages.address(0)) | 1;
    pages.write(0, magic);
    let zero = pages.read(1);
    let frames = (frame_of(pages.address(0)), frame_of(pages.address(1)));
    let (Some(pfn), Some(zero_pfn), 0) = (frames.0, frames.1, zero) else {
        return Err("/proc/self/pagemap shows no frame numbers".to_owned());
    };
    for batch in 0..BATCHES {
        let request = CalibrationRequest {
            address: pages.address(0),
            pfn,
            magic,
            zero_pfn,
            phys_mask: paging.phys_mask,
            levels: paging.levels,
            first_step: batch * CALIBRATION_STEPS,
        };
        run(program, &request)?;
        match state() {
            Calibration { trusted: 1, .. } => return Ok(()),
            Calibration { direct_map: 0, .. } => {}
            // The direct map is found, but not the descriptors: more steps do not help.
            _ => break,
        }
    }
    Err("the kernel's page descriptors were not found".to_owned())
}
