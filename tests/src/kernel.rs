//! The running kernel: whether cowtrace works on it, and settings that tests change, and put back whatever happens.

use std::{
    ffi::CString,
    fs,
    path::Path,
    sync::{
        Once,
        atomic::{AtomicPtr, Ordering},
    },
};

use anyhow::{Context as _, Result};

use crate::run::backend;

/// Since then the counters of resident pages that the tracepoint backend needs are reported at once.
const PROMPT_COUNTERS: (u32, u32) = (6, 2);
/// Since then the kernel counts copies (taskstats' `wpcopy_count`).
const COPIES_COUNTED: (u32, u32) = (5, 19);

/// Whether the kernel is one that cowtrace works on, with the backend under test.
pub fn is_supported() -> bool {
    backend().as_deref() != Some("tracepoint") || counters_are_prompt()
}

/// Whether the tracepoint backend can work on this kernel.
pub fn counters_are_prompt() -> bool {
    since(PROMPT_COUNTERS)
}

/// Whether the kernel counts copies itself.
pub fn counts_copies() -> bool {
    since(COPIES_COUNTED)
}

/// Whether the running kernel is this version or a later one.
fn since(version: (u32, u32)) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What cannot be read is for the tests to find out.
    version_of(&release).is_none_or(|running| running >= version)
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
    numbers.next()?.ok().zip(numbers.next()?.ok())
}

/// Bytes of a page.
pub fn page_size() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Pages of the heap on which the lab's 64 KiB lie: they begin behind the allocator's notes. 17 of 4 KiB.
pub fn heap_pages() -> u64 {
    (64 << 10) / page_size() + 1
}

/// The switch of delay accounting.
pub const DELAY_ACCOUNTING: &str = "/proc/sys/kernel/task_delayacct";

/// A file below `/proc/sys` or `/sys` with another value for as long as this lives: also after a panic (by unwinding)
/// and after Ctrl-C (by a signal handler).
pub struct Setting {
    undo: *mut Undo,
}

struct Undo {
    path: CString,
    value: CString,
}

const AT_ONCE: usize = 8;
static UNDO: [AtomicPtr<Undo>; AT_ONCE] = [const { AtomicPtr::new(std::ptr::null_mut()) }; AT_ONCE];
static HANDLERS: Once = Once::new();

impl Setting {
    /// Writes a value.
    pub fn set(path: &str, value: &str) -> Result<Setting> {
        HANDLERS.call_once(handle_signals);
        let before = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let undo =
            Box::into_raw(Box::new(Undo { path: CString::new(path)?, value: CString::new(before.trim())? }));
        // First the way back, then the change.
        let free = UNDO.iter().find(|slot| {
            slot.compare_exchange(std::ptr::null_mut(), undo, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        });
        let setting = Setting { undo };
        free.context("too many settings at once")?;
        fs::write(path, value).with_context(|| format!("cannot write {value} to {path}"))?;
        Ok(setting)
    }

    /// Delay accounting, without which the kernel counts no copies; only for tasks that start from now on. `None` where
    /// it cannot be switched, which are kernels that count no copies (before 5.14).
    pub fn delay_accounting() -> Result<Option<Setting>> {
        let switch = DELAY_ACCOUNTING;
        if Path::new(switch).exists() { Setting::set(switch, "1").map(Some) } else { Ok(None) }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // SAFETY: made by `set`, and valid until it is freed below.
        put_back(unsafe { &*self.undo });
        for slot in &UNDO {
            let null = std::ptr::null_mut();
            let _ = slot.compare_exchange(self.undo, null, Ordering::SeqCst, Ordering::SeqCst);
        }
        // SAFETY: made by `Box::into_raw`, and no longer in the list.
        drop(unsafe { Box::from_raw(self.undo) });
    }
}

/// Only what a signal handler may do.
fn put_back(undo: &Undo) {
    // SAFETY: C strings; a descriptor that is used only here.
    unsafe {
        let fd = libc::open(undo.path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd != -1 {
            libc::write(fd, undo.value.as_ptr().cast(), undo.value.as_bytes().len());
            libc::close(fd);
        }
    }
}

fn handle_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: a handler that calls only what a handler may, and then lets the signal have its usual effect.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    for slot in &UNDO {
        // SAFETY: null, or valid while it is in the list.
        if let Some(undo) = unsafe { slot.load(Ordering::SeqCst).as_ref() } {
            put_back(undo);
        }
    }
    // SAFETY: the default action by now.
    unsafe { libc::raise(signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_releases() {
        assert_eq!(version_of("5.10.0-32-cloud-amd64\n"), Some((5, 10)));
        assert_eq!(version_of("6.12.107+deb13-cloud-amd64"), Some((6, 12)));
        assert_eq!(version_of("7.2"), Some((7, 2)));
        assert_eq!(version_of("unknown"), None);
    }
}
