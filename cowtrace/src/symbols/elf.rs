//! Functions of ELF files, by file offset, demangled.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use blazesym::symbolize::{
    Input, Symbolizer,
    source::{Elf, Source},
};
use nix::time::{ClockId, clock_gettime};

use super::mapped_files::MappedFiles;
use crate::model::CodePlace;

/// A file that can be read.
struct File {
    source: Source<'static>,
    /// When its content was changed last.
    written: SystemTime,
    /// When it, or what its path names, was changed last.
    changed: SystemTime,
}

/// Reads the symbol tables of files, each once.
pub(super) struct ElfSymbols {
    symbolizer: Symbolizer,
    mapped: MappedFiles,
    files: HashMap<Arc<str>, Option<File>>,
    names: HashMap<(Arc<str>, u64), Option<Arc<str>>>,
    /// When the monotonic clock began.
    epoch: SystemTime,
}

impl Default for ElfSymbols {
    fn default() -> ElfSymbols {
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(false)
            .enable_inlined_fns(false)
            .build();
        let running = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        let epoch = SystemTime::now().checked_sub(running).unwrap_or(UNIX_EPOCH);
        ElfSymbols {
            symbolizer,
            mapped: MappedFiles::default(),
            files: HashMap::new(),
            names: HashMap::new(),
            epoch,
        }
    }
}

impl ElfSymbols {
    /// The function at a place; `None` if the file has no symbol for it, cannot be read, or was changed since it was mapped.
    pub(super) fn name(&mut self, pids: &[u32], place: &CodePlace) -> Option<Arc<str>> {
        let mapped = self.mapped.path(pids, place);
        let is_known = mapped.is_some();
        let path = mapped.unwrap_or_else(|| Arc::clone(&place.name));
        let file = self.files.entry(Arc::clone(&path)).or_insert_with(|| open(&path)).as_ref()?;
        // Where only the path is known, another file may have it by now.
        let since = if is_known { file.written } else { file.changed };
        if since > self.epoch.checked_add(Duration::from_nanos(place.mapped_ns))? {
            return None;
        }
        let key = (Arc::clone(&path), place.offset);
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let found = self.symbolizer.symbolize_single(&file.source, Input::FileOffset(place.offset));
        let name = match found {
            Ok(symbol) => symbol.as_sym().map(|symbol| Arc::from(&*symbol.name)),
            Err(error) => {
                tracing::debug!("no symbol at {path:?}+{:#x}: {error}", place.offset);
                None
            }
        };
        self.names.insert(key, name.clone());
        name
    }
}

fn open(path: &str) -> Option<File> {
    // Anything else than a file may block whoever opens it.
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let time = |seconds: i64, ns: i64| {
        let since_epoch = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(ns).ok()?);
        UNIX_EPOCH.checked_add(since_epoch)
    };
    let written = time(metadata.mtime(), metadata.mtime_nsec())?;
    let changed = time(metadata.ctime(), metadata.ctime_nsec())?;
    let elf = Elf { debug_syms: false, ..Elf::new(path) };
    Some(File { source: Source::Elf(elf), written, changed })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Where this test's own code is, from /proc.
    pub(crate) fn own_place(address: u64) -> CodePlace {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let hex = |text| u64::from_str_radix(text, 16).unwrap();
            (hex(start)..hex(end)).contains(&address)
        });
        let words: Vec<&str> = line.unwrap().split_whitespace().collect();
        let hex = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = words[0].split_once('-').unwrap();
        let range = (hex(start), hex(end));
        let offset = address - range.0 + hex(words[2]);
        CodePlace { name: words[5].into(), offset, mapped_ns: u64::MAX / 2, range }
    }

    #[test]
    fn a_function_is_found_by_its_offset_in_the_file() {
        let mut symbols = ElfSymbols::default();
        let place = own_place(open as *const () as u64 + 1);
        let name = symbols.name(&[], &place).expect("the test program has symbols");
        assert!(name.ends_with("symbols::elf::open"), "{name}");
        assert_eq!(symbols.name(&[], &place), Some(name.clone()));
        assert_eq!(symbols.name(&[std::process::id()], &place), Some(name));
        assert_eq!(
            symbols.name(&[], &CodePlace { mapped_ns: 0, ..place }),
            None,
            "changed since it was mapped"
        );
    }

    #[test]
    fn what_is_no_program_has_no_functions() {
        let mut symbols = ElfSymbols::default();
        for path in ["/dev/zero", "/no/such/file", "/proc/self/status"] {
            assert_eq!(
                symbols.name(
                    &[],
                    &CodePlace { name: path.into(), offset: 64, mapped_ns: u64::MAX / 2, range: (0, 0) }
                ),
                None
            );
        }
    }
}
