//! Names for addresses of code: from ELF files, and from the maps that JIT compilers write.

mod elf;
mod mapped_files;
mod perf_map;

use std::{collections::HashMap, sync::Arc};

use elf::ElfSymbols;
use perf_map::PerfMap;

use crate::model::CodePlace;

/// The name of a place in a file of code, or of a function made at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What to show.
    pub name: Arc<str>,
    /// Whether a name was found.
    pub resolved: bool,
}

/// Finds names; what was read or looked up once is kept.
#[derive(Default)]
pub struct Symbols {
    elf: ElfSymbols,
    perf_maps: HashMap<u32, Option<PerfMap>>,
}

impl Symbols {
    /// The function at a place in a file, that was mapped in the first of these processes, and in those that it was forked
    /// from.
    pub fn in_file(&mut self, pids: &[u32], place: &CodePlace) -> Frame {
        // Memory of the kernel's making: [vdso].
        if place.name.starts_with('[') {
            return Frame { name: Arc::clone(&place.name), resolved: true };
        }
        match self.elf.name(pids, place) {
            Some(name) => Frame { name, resolved: true },
            None => Frame { name: format!("[{}+{:#x}]", place.name, place.offset).into(), resolved: false },
        }
    }

    /// The function at an address of a process that no file is behind: from its `/tmp/perf-PID.map`, if there is one, or
    /// from that of a process that it was forked from.
    pub fn made_at_run_time(&mut self, pids: &[u32], address: u64) -> Frame {
        for &pid in pids {
            let map = self.perf_maps.entry(pid).or_insert_with(|| PerfMap::of_process(pid));
            if let Some(name) = map.as_ref().and_then(|map| map.name(address)) {
                return Frame { name, resolved: true };
            }
        }
        Frame { name: "[unknown]".into(), resolved: false }
    }
}
