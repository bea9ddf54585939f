//! Finds the heap of a program before perf calls it so.
//!
//! Linux 6.x reports the mapping that the first brk() makes before it moves the program break, so that the record says
//! `//anon`; only the next growth is called `[heap]`. A small program has no next growth.

use std::sync::Arc;

use super::Mapping;
use super::mapping::HEAP;

/// The farthest that a kernel moves the heap away from the program (arm64; x86 has 32 MiB).
const BRK_RANDOM_MAX: u64 = 1 << 30;

/// Where the ELF loader put the program, as far as its mappings were reported since the exec.
#[derive(Clone, Debug, Default)]
pub(super) enum Program {
    /// No exec was seen.
    #[default]
    Unknown,
    /// After the exec, before the first file.
    Starting,
    /// The loader maps; the program is the first file, and its .bss the anonymous memory right behind.
    Loading { name: Arc<str>, start: u64, end: u64 },
    /// The loader is done.
    Loaded { start: u64, end: u64 },
}

impl Program {
    /// Takes note of a mapping, and names it where it is the heap.
    pub(super) fn see(&mut self, mapping: &mut Mapping) {
        match self {
            Program::Unknown => {}
            Program::Starting if mapping.name.starts_with('/') => {
                let name = Arc::clone(&mapping.name);
                *self = Program::Loading { name, start: mapping.start, end: mapping.end };
            }
            Program::Starting => {}
            Program::Loading { name, start, end } => {
                // The vdso is what the kernel maps last, before the program runs.
                if &*mapping.name == "[vdso]" {
                    *self = Program::Loaded { start: *start, end: *end };
                } else if mapping.name == *name || (mapping.name.is_empty() && mapping.start == *end) {
                    *start = mapping.start.min(*start);
                    *end = mapping.end.max(*end);
                }
            }
            Program::Loaded { start, end } => {
                let perms = mapping.perms;
                let near = mapping.start >= *start
                    && mapping.end > *end
                    && mapping.start <= end.saturating_add(BRK_RANDOM_MAX);
                if near && mapping.name.is_empty() && perms.write && !perms.shared {
                    mapping.name = HEAP.into();
                }
            }
        }
    }
}
