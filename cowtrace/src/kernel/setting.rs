//! Settings of the kernel that are changed for a while: put back however that ends.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A setting that was changed. Dropped, it is as before.
///
/// Hold it in a variable that is declared before the workload: what is dropped last is put back when no process of the
/// workload is left. Ctrl-C reaches its holder as an error or as a word from a descriptor, so that is covered; SIGKILL
/// is not.
#[derive(Debug)]
#[must_use = "a setting is put back as soon as this is dropped"]
pub struct KernelSetting {
    file: PathBuf,
    before: String,
    changed: bool,
}

impl KernelSetting {
    /// Gives the setting in this file below `/proc/sys` or `/sys` another value.
    ///
    /// # Errors
    /// The kernel does not have the setting, or refuses the value.
    pub fn change(file: impl Into<PathBuf>, value: &str) -> anyhow::Result<KernelSetting> {
        let file = file.into();
        let before = read_setting(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // From here on, so that a value that was taken in spite of an error is put back as well.
        let changed = before != value;
        let setting = KernelSetting { file, before, changed };
        if changed {
            fs::write(&setting.file, value)
                .with_context(|| format!("cannot write {value} to {}", setting.file.display()))?;
        }
        Ok(setting)
    }

    /// Its value before the change.
    pub fn before(&self) -> &str {
        &self.before
    }
}

impl Drop for KernelSetting {
    fn drop(&mut self) {
        // What was as wanted is left to whoever changes it meanwhile: two who want the same must not put back each
        // other's change.
        if !self.changed || read_setting(&self.file).is_ok_and(|now| now == self.before) {
            return;
        }
        if let Err(error) = fs::write(&self.file, &self.before) {
            let (file, before) = (self.file.display(), &self.before);
            tracing::warn!("{file} could not be set back to {before}: {error}; do it by hand");
        }
    }
}

/// The present value of a setting; of a list of choices, the one in brackets.
///
/// # Errors
/// The file cannot be read.
pub fn read_setting(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file)?;
    let chosen = text.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    Ok(chosen.unwrap_or(text.trim_end()).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(value: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, value).unwrap();
        file
    }

    #[test]
    fn a_setting_is_as_before_when_it_is_dropped() {
        let file = file("3\n");
        let setting = KernelSetting::change(file.path(), "10").unwrap();
        assert_eq!((setting.before(), read_setting(file.path()).unwrap().as_str()), ("3", "10"));
        drop(setting);
        assert_eq!(read_setting(file.path()).unwrap(), "3");
    }

    #[test]
    fn a_panic_and_an_error_put_it_back_as_well() {
        let file = file("0");
        let panic = std::panic::catch_unwind(|| {
            let _setting = KernelSetting::change(file.path(), "1").unwrap();
            panic!("in the middle of an experiment");
        });
        assert!(panic.is_err());
        assert_eq!(read_setting(file.path()).unwrap(), "0");
        let failing = || -> anyhow::Result<()> {
            let _setting = KernelSetting::change(file.path(), "1")?;
            anyhow::bail!("interrupted")
        };
        assert!(failing().is_err());
        assert_eq!(read_setting(file.path()).unwrap(), "0");
    }

    #[test]
    fn what_was_as_wanted_is_not_put_back() {
        let file = file("1");
        let setting = KernelSetting::change(file.path(), "1").unwrap();
        fs::write(&file, "0").unwrap();
        drop(setting);
        assert_eq!(read_setting(file.path()).unwrap(), "0", "another one's change");
    }

    #[test]
    fn of_choices_the_chosen_one_counts() {
        let file = file("always [madvise] never\n");
        drop(KernelSetting::change(file.path(), "never").unwrap());
        assert_eq!(read_setting(file.path()).unwrap(), "madvise");
    }

    #[test]
    fn a_setting_that_is_not_there_is_an_error_that_names_it() {
        let error = KernelSetting::change("/proc/sys/nothing", "1").unwrap_err();
        assert!(error.to_string().contains("/proc/sys/nothing"), "{error}");
    }
}
