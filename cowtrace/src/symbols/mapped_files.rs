//! Which file is mapped, whatever its path names for us: another one in a container, or none once it is deleted.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt as _, sync::Arc};

use crate::model::CodePlace;

/// Answers of /proc that are kept; what is beyond them is asked again.
const MAX_KEPT: usize = 65_536;

/// A file, by device and inode.
type Identity = (u64, u64);

/// Where files can be read that processes have mapped.
#[derive(Default)]
pub(super) struct MappedFiles {
    /// By process and mapping; `None`: there is no such process or mapping any more.
    asked: HashMap<(u32, u64, u64), Option<Identity>>,
    /// Where it was met first, for all processes that have it.
    paths: HashMap<Identity, Arc<str>>,
}

impl MappedFiles {
    /// A path of the very file that is mapped at a place, in the first of these processes where that can be told.
    pub(super) fn path(&mut self, pids: &[u32], place: &CodePlace) -> Option<Arc<str>> {
        let (pid, identity) = pids.iter().find_map(|&pid| Some((pid, self.identity(pid, place.range)?)))?;
        let path = || {
            let same = identity_of(&place.name) == Some(identity);
            if same { Arc::clone(&place.name) } else { link(pid, place.range).into() }
        };
        Some(Arc::clone(self.paths.entry(identity).or_insert_with(path)))
    }

    fn identity(&mut self, pid: u32, range: (u64, u64)) -> Option<Identity> {
        if self.asked.len() >= MAX_KEPT {
            self.asked.clear();
        }
        *self.asked.entry((pid, range.0, range.1)).or_insert_with(|| identity_of(&link(pid, range)))
    }
}

/// Opens the file of a mapping, also if no path leads to it.
fn link(pid: u32, (start, end): (u64, u64)) -> String {
    format!("/proc/{pid}/map_files/{start:x}-{end:x}")
}

fn identity_of(path: &str) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::elf::tests::own_place;

    #[test]
    fn a_file_that_a_process_has_mapped_is_found_whatever_it_is_called() {
        let place = own_place(link as *const () as u64);
        let own = std::process::id();
        let mut files = MappedFiles::default();
        let Some(path) = files.path(&[own], &place) else {
            // Only root may ask.
            assert!(!nix::unistd::geteuid().is_root());
            return;
        };
        assert_eq!(path, place.name);
        let named = |name: &str| CodePlace { name: name.into(), ..place.clone() };
        for name in ["/bin/sh", "/no/such/file", "/usr/bin/server (deleted)"] {
            let found = MappedFiles::default().path(&[own], &named(name)).expect("it is mapped");
            assert!(found.starts_with(&format!("/proc/{own}/map_files/")), "{found}");
            assert_eq!(identity_of(&found), identity_of(&place.name));
            // Met before, under its own name.
            assert_eq!(files.path(&[own], &named(name)).as_ref(), Some(&place.name));
        }
    }

    #[test]
    fn a_process_or_mapping_that_is_gone_tells_nothing() {
        let place = own_place(link as *const () as u64);
        let elsewhere = CodePlace { range: (0x1000, 0x2000), ..place.clone() };
        let mut files = MappedFiles::default();
        assert_eq!(files.path(&[u32::MAX], &place), None);
        assert_eq!(files.path(&[std::process::id()], &elsewhere), None);
    }
}
