//! Functions that were made at run time: `/tmp/perf-PID.map`, as JIT compilers and interpreters write it for perf.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::Arc,
};

/// Bytes read of one file; what is beyond them stays without a name.
const MAX_BYTES: u64 = 64 << 20;

/// The functions of one process.
#[derive(Debug, Default)]
pub(super) struct PerfMap {
    /// By first address: the first address behind it, and its name.
    functions: BTreeMap<u64, (u64, Arc<str>)>,
}

impl PerfMap {
    /// Reads the file of a process, if it has one.
    pub(super) fn of_process(pid: u32) -> Option<PerfMap> {
        let path = format!("/tmp/perf-{pid}.map");
        // In a directory that everybody may write to: nothing that blocks, and nothing that lies elsewhere.
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags).open(&path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut map = PerfMap::default();
        let mut reader = BufReader::new(file.take(MAX_BYTES));
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).ok()? > 0 {
            map.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Some(map)
    }

    /// Takes over a line: address and size in hexadecimal, and the name, which may have blanks. Others are left out. Where
    /// code was written over, the last line holds.
    fn add(&mut self, line: &str) {
        let mut parts = line.trim_end().splitn(3, ' ');
        let mut number = || {
            let text = parts.next()?;
            u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
        };
        let (Some(start), Some(size)) = (number(), number()) else { return };
        let (Some(name), Some(end)) = (parts.next(), start.checked_add(size)) else { return };
        if size > 0 && !name.is_empty() {
            self.functions.insert(start, (end, name.into()));
        }
    }

    /// The function at an address.
    pub(super) fn name(&self, address: u64) -> Option<Arc<str>> {
        let (_, (end, name)) = self.functions.range(..=address).next_back()?;
        (address < *end).then(|| Arc::clone(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> PerfMap {
        let mut map = PerfMap::default();
        text.lines().for_each(|line| map.add(line));
        map
    }

    #[test]
    fn functions_are_found_by_address() {
        let map = map("7f00 10 py::f:/a b.py\n0x7f20 0x8 LazyCompile:*g\n");
        assert_eq!(map.name(0x7f00).as_deref(), Some("py::f:/a b.py"));
        assert_eq!(map.name(0x7f0f).as_deref(), Some("py::f:/a b.py"));
        assert_eq!((map.name(0x7f10), map.name(0x7eff)), (None, None));
        assert_eq!(map.name(0x7f27).as_deref(), Some("LazyCompile:*g"));
    }

    #[test]
    fn later_lines_replace_earlier_ones() {
        assert_eq!(map("10 10 old\n10 20 new\n").name(0x2f).as_deref(), Some("new"));
    }

    #[test]
    fn broken_lines_are_left_out() {
        let map = map("\nxyz\n10\n10 10\n10 zz f\nffffffffffffffff 10 f\n30 0 empty\n40 1 \n50 1 good\n");
        assert_eq!(map.functions.len(), 1);
        assert_eq!(map.name(0x50).as_deref(), Some("good"));
    }
}
