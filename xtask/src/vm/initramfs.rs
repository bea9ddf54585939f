//! A file system for a virtual machine, in the kernel's own archive format ("newc" cpio).

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};

use super::userland::Userland;

const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;

/// An archive in the making. Parents of what is put in are made by themselves.
pub struct Initramfs {
    userland: Userland,
    bytes: Vec<u8>,
    made: BTreeSet<String>,
}

impl Initramfs {
    /// An empty one, for programs whose libraries are of `userland`.
    pub fn new(userland: &Userland) -> Initramfs {
        Initramfs { userland: userland.clone(), bytes: Vec::new(), made: BTreeSet::new() }
    }

    /// An empty directory.
    pub fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.made.insert(path.to_owned()) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path, DIRECTORY, &[]);
    }

    /// A file with this content.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.put(path, REGULAR | mode, content);
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.put(path, SYMLINK, target.as_bytes());
    }

    /// A file of this machine.
    pub fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let read = || Ok::<_, std::io::Error>((fs::read(from)?, fs::metadata(from)?.permissions().mode()));
        let (content, mode) = read().with_context(|| format!("cannot read {}", from.display()))?;
        self.file(to, mode & 0o777, &content);
        Ok(())
    }

    /// A program, and the shared libraries that it needs, where it looks for them.
    pub fn program(&mut self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to)?;
        for (library, path) in self.userland.libraries(from)? {
            self.copy(&library, &path)?;
        }
        Ok(())
    }

    /// A directory of this machine with all that is in it.
    pub fn tree(&mut self, from: &Path, to: &str) -> Result<()> {
        let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            let inside = format!("{to}/{}", entry.file_name().display());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&entry.path(), &inside)?;
            } else if kind.is_file() {
                self.copy(&entry.path(), &inside)?;
            } else if kind.is_symlink() {
                self.symlink(&inside, &fs::read_link(entry.path())?.display().to_string());
            }
        }
        Ok(())
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn put(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_matches('/');
        if !self.made.insert(path.to_owned()) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.entry(path, mode, content);
    }

    /// Header (Documentation/driver-api/early-userspace/buffer-format.rst), name and content, each padded to four
    /// bytes.
    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let inode = self.made.len();
        let (links, size, name) = (1, content.len(), path.len() + 1);
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name:08x}{0:08x}",
            0
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_once_and_all_is_padded() {
        let mut archive = Initramfs::new(&Userland::default());
        archive.file("/etc/a", 0o644, b"x");
        archive.file("etc/b", 0o755, b"1234");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(at("etc") < at("etc/a") && at("etc/a") < at("etc/b") && at("etc/b") < at("TRAILER!!!"));
        assert_eq!(text.matches("etc\0").count(), 1);
        assert_eq!(bytes.len() % 4, 0);
        assert!(text.starts_with("070701") && text.contains("000081ed"), "the mode of etc/b");
    }
}
