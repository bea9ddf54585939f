//! Programs whose faults are no ordinary copies: the zero page, forbidden writes, merged and huge pages.

use core::{
    ffi::{c_int, c_void},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::sys::{self, Memory};

const PRIVATE: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Reads each page, which maps the zero page, then writes to it.
pub fn zero(pages: usize) -> Option<c_int> {
    let memory = Memory::map(pages, PRIVATE, -1);
    let zeros = memory.all_are(0);
    memory.write(1);
    Some(c_int::from(!zeros))
}

/// Writes to a page that was taken away: SIGSEGV.
pub fn denied() -> Option<c_int> {
    sys::no_core();
    let memory = Memory::touched(1);
    memory.protect(libc::PROT_READ);
    memory.write(2);
    Some(1)
}

static DENIED: AtomicUsize = AtomicUsize::new(0);

/// Writes to pages that were taken away; the handler gives each back, and the write is tried again.
pub fn denied_handled(pages: usize) -> Option<c_int> {
    let memory = Memory::touched(pages);
    memory.protect(libc::PROT_READ);
    // SAFETY: an all-zero action is valid; the handler does what a handler may.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = give_back as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        if libc::sigaction(libc::SIGSEGV, &action, core::ptr::null_mut()) == -1 {
            sys::fail("sigaction");
        }
    }
    memory.write(2);
    Some(c_int::from(DENIED.load(Ordering::Relaxed) != pages))
}

extern "C" fn give_back(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    let page_size = sys::page_size();
    // SAFETY: the kernel's siginfo of a SIGSEGV, and the page that it names.
    unsafe {
        let address = (*info).si_addr() as usize & !(page_size - 1);
        if libc::mprotect(address as *mut c_void, page_size, libc::PROT_READ | libc::PROT_WRITE) == -1 {
            sys::exit_now(1);
        }
    }
    DENIED.fetch_add(1, Ordering::Relaxed);
}

/// KSM merges at most every `sleep_millisecs`, and looks at a page twice before.
const KSM_PATIENCE_MS: i64 = 30_000;
const KSM_POLL_MS: i64 = 20;

/// Identical pages, merged by the kernel, then written.
pub fn ksm(pages: usize) -> Option<c_int> {
    let memory = Memory::touched(pages);
    if !merge(&memory) {
        return Some(1);
    }
    memory.write(2);
    Some(0)
}

/// Waits until the kernel has merged all of these pages; whether it did.
pub fn merge(memory: &Memory) -> bool {
    memory.advise(libc::MADV_MERGEABLE, "madvise(MADV_MERGEABLE); the kernel needs CONFIG_KSM");
    let mut waited = 0;
    while merged_pages() < memory.pages() {
        if waited >= KSM_PATIENCE_MS {
            sys::write(2, b"cowtrace-workload: ksm: not merged within 30 s; is /sys/kernel/mm/ksm/run 1?\n");
            return false;
        }
        sys::sleep_ms(KSM_POLL_MS);
        waited += KSM_POLL_MS;
    }
    true
}

/// Pages of this process that are merged; of the machine, where the kernel does not tell them apart.
fn merged_pages() -> usize {
    let own = number_in(c"/proc/self/ksm_merging_pages");
    own.unwrap_or_else(|| {
        let shared = number_in(c"/sys/kernel/mm/ksm/pages_shared").unwrap_or(0);
        shared + number_in(c"/sys/kernel/mm/ksm/pages_sharing").unwrap_or(0)
    })
}

fn number_in(path: &core::ffi::CStr) -> Option<usize> {
    // SAFETY: a C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd == -1 {
        return None;
    }
    let mut text = [0; 32];
    let length = sys::read(fd, &mut text);
    // SAFETY: opened above.
    unsafe { libc::close(fd) };
    core::str::from_utf8(text.get(..usize::try_from(length).ok()?)?).ok()?.trim().parse().ok()
}

/// Bytes of a huge page, where the kernel does not say.
const USUAL_HUGE: usize = 2 << 20;

/// One byte written to aligned memory for which huge pages are asked: one fault brings in a whole one.
pub fn thp_anon() -> Option<c_int> {
    let page_size = sys::page_size();
    let bytes = number_in(c"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").unwrap_or(USUAL_HUGE);
    let mapping = Memory::map(2 * bytes / page_size, PRIVATE, -1);
    let skip = mapping.start().align_offset(bytes) / page_size;
    let huge = mapping.part(skip, skip + bytes / page_size);
    huge.advise(libc::MADV_HUGEPAGE, "madvise(MADV_HUGEPAGE); the kernel needs CONFIG_TRANSPARENT_HUGEPAGE");
    huge.part(0, 1).write(1);
    Some(0)
}
