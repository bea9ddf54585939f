//! The disk of a virtual machine: a tree of files, made into an ext4 image.
//!
//! A disk and not an initramfs, because the pages of files that are in memory are always dirty, cannot be written out,
//! and are counted otherwise by smaps. ext4 and NVMe are built into Debian's kernels, so that no module is needed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{tools, userland::Userland};
use crate::sys;

/// Most of it is a hole; it has room for what the tests write.
const SIZE: &str = "512M";
/// Nothing has to outlive a crash; and blocks as large as pages, as on any disk of usual size.
const FORMAT: [&str; 5] = ["-q", "-F", "-b4096", "-O^has_journal", "-d"];

/// Files that are going to be a disk.
pub struct Tree {
    root: PathBuf,
    userland: Userland,
}

impl Tree {
    /// An empty tree, whose files are gathered in this directory, for programs whose libraries are of `userland`. What
    /// was there before goes.
    pub fn new(root: PathBuf, userland: &Userland) -> Result<Tree> {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        Ok(Tree { root, userland: userland.clone() })
    }

    /// An empty directory.
    pub fn directory(&self, path: &str) -> Result<()> {
        let place = self.place(path);
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))
    }

    /// A file with this content.
    pub fn file(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let place = self.with_parents(path)?;
        fs::write(&place, content).with_context(|| format!("cannot write {}", place.display()))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot change the mode of {}", place.display()))
    }

    /// A symbolic link.
    pub fn symlink(&self, path: &str, target: &str) -> Result<()> {
        let place = self.with_parents(path)?;
        symlink(target, &place).with_context(|| format!("cannot create {}", place.display()))
    }

    /// A file of this machine.
    pub fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let place = self.with_parents(to)?;
        // With its mode.
        fs::copy(from, &place)
            .map(|_| ())
            .with_context(|| format!("cannot copy {} to {}", from.display(), place.display()))
    }

    /// A program, and the shared libraries that it needs, where it looks for them.
    pub fn program(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to)?;
        for (library, path) in self.userland.libraries(from)? {
            self.copy(&library, &path)?;
        }
        Ok(())
    }

    /// A directory of this machine with all that is in it.
    pub fn tree(&self, from: &Path, to: &str) -> Result<()> {
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
                self.symlink(&inside, &fs::read_link(entry.path())?.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Makes the image.
    pub fn finish(self, image: &Path) -> Result<()> {
        if image.exists() {
            fs::remove_file(image).with_context(|| format!("cannot remove {}", image.display()))?;
        }
        sys::output(tools::MKFS.command()?.args(FORMAT).arg(&self.root).arg(image).arg(SIZE))?;
        Ok(())
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn with_parents(&self, path: &str) -> Result<PathBuf> {
        let place = self.place(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_made_and_modes_kept() {
        let place = std::env::temp_dir().join(format!("cowtrace-tree-{}", std::process::id()));
        let tree = Tree::new(place.clone(), &Userland::Host).unwrap();
        tree.file("/etc/a", 0o644, b"x").unwrap();
        tree.file("bin/b", 0o755, b"1234").unwrap();
        tree.symlink("bin/sh", "b").unwrap();
        tree.copy(&place.join("bin/b"), "/usr/bin/c").unwrap();
        let mode = |path: &str| fs::metadata(place.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("etc/a"), mode("bin/b"), mode("usr/bin/c")), (0o644, 0o755, 0o755));
        assert_eq!(fs::read(place.join("bin/sh")).unwrap(), b"1234");
        // What was there before goes.
        Tree::new(place.clone(), &Userland::Host).unwrap();
        assert!(!place.join("etc").exists());
        fs::remove_dir_all(place).unwrap();
    }
}
