//! A file for steps to map.

use std::{fs, io::Write as _, path::Path};

use anyhow::Context as _;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use tempfile::NamedTempFile;

/// All its bytes.
const CONTENT: u8 = b'f';

/// `RAMFS_MAGIC`, the root of a bare initramfs.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Outlives a restart, and so is on a disk.
const DIRECTORY: &str = "/var/tmp";

/// A file of equal bytes, written to disk and in the page cache; removed with this value.
#[derive(Debug)]
pub(super) struct MappedFile {
    file: NamedTempFile,
}

impl MappedFile {
    /// A new one, so many pages long.
    pub fn new(pages: u64) -> anyhow::Result<MappedFile> {
        let mut file =
            NamedTempFile::new_in(DIRECTORY).or_else(|_| NamedTempFile::new()).with_context(|| {
                format!("cannot create a file in {DIRECTORY}; or name another folder in TMPDIR")
            })?;
        let content = vec![CONTENT; usize::try_from(pages * procfs::page_size())?];
        file.write_all(&content)
            // Until it is on disk its pages are dirty, which smaps shows for whoever maps them.
            .and_then(|()| file.as_file().sync_all())
            .with_context(|| format!("cannot write {}", file.path().display()))?;
        Ok(MappedFile { file })
    }

    /// For the step's command line.
    pub fn argument(&self) -> anyhow::Result<String> {
        let path = self.file.path();
        path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
    }

    /// Pages that read(2) finds changed.
    pub fn changed_pages(&self) -> anyhow::Result<u64> {
        let path = self.file.path();
        let now = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let page_size = usize::try_from(procfs::page_size())?;
        Ok(now.chunks(page_size).filter(|page| page.iter().any(|&byte| byte != CONTENT)).count() as u64)
    }

    /// See [`in_memory`].
    pub fn in_memory(&self) -> Option<String> {
        in_memory(self.file.path())
    }
}

/// One sentence, if there is no disk behind the file's folder: then its pages are always dirty, and writes to
/// them need not be noticed.
pub(super) fn in_memory(file: &Path) -> Option<String> {
    let folder = file.parent()?;
    let kind = statfs(folder).ok()?.filesystem_type();
    (kind == TMPFS_MAGIC || kind == RAMFS_MAGIC).then(|| {
        format!(
            "{} is in memory, and so never written back: the pages of its files stay dirty, and writes to \
             them are not watched for",
            folder.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_pages_count() {
        let file = MappedFile::new(3).unwrap();
        assert_eq!(file.changed_pages().unwrap(), 0);
        let mut bytes = fs::read(file.argument().unwrap()).unwrap();
        bytes[usize::try_from(procfs::page_size()).unwrap() + 1] = 0;
        fs::write(file.argument().unwrap(), bytes).unwrap();
        assert_eq!(file.changed_pages().unwrap(), 1);
    }

    #[test]
    fn a_file_system_without_a_disk_is_told() {
        assert!(in_memory(Path::new("/proc/version")).is_none());
        if let Some(setting) = in_memory(Path::new("/dev/shm/any")) {
            assert!(setting.starts_with("/dev/shm is in memory"), "{setting}");
        }
    }
}
