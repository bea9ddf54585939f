//! Delay accounting, with which the kernel counts copies for taskstats: on while anybody needs it.
//!
//! It is one switch for the whole machine, and two runs may overlap: the first one must not switch it off under the other,
//! and the last one must put back what the first one found. So everybody who needs it holds a shared lock on a file, in
//! which the first one writes what it found; who can lock it alone is the first, or the last.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use super::setting::read_setting;

/// Whether the kernel counts copies (and delays) of the tasks that are started from now on. Since Linux 5.14; earlier
/// kernels have it always on.
const SWITCH: &str = "/proc/sys/kernel/task_delayacct";
const STATE: &str = "/run/cowtrace-delay-accounting";
const ON: &str = "1";
/// How often the first and the last may get in each other's way.
const ATTEMPTS: u32 = 100;
/// Longer from one attempt to the next.
const PAUSE: Duration = Duration::from_micros(50);

/// Delay accounting, switched on. Dropped, it is as before, unless others need it.
///
/// After SIGKILL it stays on until the next one who holds it lets it go.
#[derive(Debug)]
#[must_use = "it is switched off again as soon as this is dropped"]
pub struct DelayAccounting {
    switch: PathBuf,
    state: File,
}

impl DelayAccounting {
    /// Whether this kernel has the switch.
    pub fn exists() -> bool {
        Path::new(SWITCH).exists()
    }

    /// Switches it on.
    ///
    /// # Errors
    /// The kernel does not have it, or refuses.
    pub fn hold() -> anyhow::Result<DelayAccounting> {
        Self::hold_at(SWITCH.into(), STATE.as_ref())
    }

    fn hold_at(switch: PathBuf, state: &Path) -> anyhow::Result<DelayAccounting> {
        let cannot = || format!("cannot note in {} what {} was", state.display(), switch.display());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(state);
        // From here on, so that an error leaves nothing behind.
        let mut held = DelayAccounting { state: file.with_context(cannot)?, switch: switch.clone() };
        for attempt in 0..ATTEMPTS {
            match held.state.try_lock() {
                Ok(()) => held.begin().with_context(cannot)?,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
            }
            // Becoming one of many, it is for a moment nobody: another may then be the first, or have been the last.
            held.state.lock_shared().with_context(cannot)?;
            if !content(&mut held.state).with_context(cannot)?.is_empty() {
                // Others need not have kept it on.
                held.switch_to(ON)?;
                return Ok(held);
            }
            // Two newcomers at once would keep each other from being the first.
            held.state.unlock().with_context(cannot)?;
            thread::sleep(PAUSE * attempt);
        }
        anyhow::bail!("{}: others come and go there all the time", cannot())
    }

    /// What the first one does, alone.
    fn begin(&mut self) -> anyhow::Result<()> {
        // If something is written there, the last one was killed before it could put that back.
        if content(&mut self.state)?.is_empty() {
            let before = read_setting(&self.switch)
                .with_context(|| format!("cannot read {}", self.switch.display()))?;
            write(&mut self.state, &before)?;
        }
        self.switch_to(ON)
    }

    /// Whether somebody has switched it off in spite of this.
    pub fn was_switched_off(&self) -> bool {
        read_setting(&self.switch).is_ok_and(|now| now != ON)
    }

    fn switch_to(&self, value: &str) -> anyhow::Result<()> {
        if read_setting(&self.switch).is_ok_and(|now| now == value) {
            return Ok(());
        }
        // Not emptied first: whoever looks meanwhile would find nothing.
        let write = || OpenOptions::new().write(true).open(&self.switch)?.write_all(value.as_bytes());
        write().with_context(|| format!("cannot write {value} to {}", self.switch.display()))
    }

    fn let_go(&mut self) -> anyhow::Result<()> {
        match self.state.try_lock() {
            // The last one.
            Ok(()) => {
                let before = content(&mut self.state)?;
                if !before.is_empty() {
                    self.switch_to(&before)?;
                    self.state.set_len(0)?;
                }
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

impl Drop for DelayAccounting {
    fn drop(&mut self) {
        if let Err(error) = self.let_go() {
            let file = self.switch.display();
            tracing::warn!("{file} could not be put back: {error:#}; do it by hand");
        }
    }
}

fn content(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn write(file: &mut File, text: &str) -> io::Result<()> {
    file.rewind()?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn with(value: &str) -> Place {
            let place = Place { folder: tempfile::tempdir().unwrap() };
            fs::write(place.switch(), value).unwrap();
            place
        }

        fn switch(&self) -> PathBuf {
            self.folder.path().join("switch")
        }

        fn state(&self) -> PathBuf {
            self.folder.path().join("state")
        }

        fn hold(&self) -> DelayAccounting {
            DelayAccounting::hold_at(self.switch(), &self.state()).unwrap()
        }

        fn now(&self) -> String {
            read_setting(&self.switch()).unwrap()
        }
    }

    #[test]
    fn it_is_on_while_it_is_held_and_then_as_before() {
        for before in ["0\n", "1\n"] {
            let place = Place::with(before);
            let held = place.hold();
            assert_eq!(place.now(), "1");
            drop(held);
            assert_eq!(place.now(), before.trim_end());
        }
    }

    #[test]
    fn the_last_one_puts_back_what_the_first_one_found() {
        let place = Place::with("0");
        let (first, second) = (place.hold(), place.hold());
        drop(first);
        assert_eq!(place.now(), "1", "the second one needs it");
        let third = place.hold();
        drop(second);
        assert_eq!(place.now(), "1");
        drop(third);
        assert_eq!(place.now(), "0");
        drop(place.hold());
        assert_eq!(place.now(), "0");
    }

    #[test]
    fn a_panic_puts_it_back_as_well() {
        let place = Place::with("0");
        let panic = std::panic::catch_unwind(|| {
            let _held = place.hold();
            panic!("in the middle of a run");
        });
        assert!(panic.is_err());
        assert_eq!(place.now(), "0");
    }

    #[test]
    fn what_a_killed_one_has_left_is_put_back_by_the_next() {
        let place = Place::with("0");
        let held = place.hold();
        // The kernel closes its files, and nothing else happens.
        let copy = std::mem::ManuallyDrop::new(held);
        // SAFETY: nobody uses the copy again.
        drop(unsafe { std::ptr::read(&raw const copy.state) });
        assert_eq!(place.now(), "1");
        drop(place.hold());
        assert_eq!(place.now(), "0");
    }

    #[test]
    fn somebody_else_switching_it_off_is_seen() {
        let place = Place::with("0");
        let held = place.hold();
        assert!(!held.was_switched_off());
        fs::write(place.switch(), "0").unwrap();
        assert!(held.was_switched_off());
        // Who comes now needs it all the same.
        drop(place.hold());
        assert!(!held.was_switched_off());
    }

    #[test]
    fn many_at_once_leave_it_as_it_was() {
        let place = Place::with("0");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let held = place.hold();
                        assert!(!held.was_switched_off());
                    }
                });
            }
        });
        assert_eq!(place.now(), "0");
        assert_eq!(fs::read_to_string(place.state()).unwrap(), "");
    }

    #[test]
    fn a_kernel_without_it_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = DelayAccounting::hold_at("/proc/sys/nothing".into(), &folder.path().join("state"));
        assert!(format!("{:#}", held.unwrap_err()).contains("/proc/sys/nothing"));
    }
}
