//! Where code was mapped in a process, program by program, for stacks that are resolved when the process is gone.

use std::{collections::VecDeque, sync::Arc};

use super::{MapEventKind, Mapping};

/// Mappings kept for each program; what is beyond them stays unresolved.
const MAX_MAPPINGS: usize = 4_096;
/// Programs kept for each process, the oldest dropped.
const MAX_PROGRAMS: usize = 64;

/// A file's code at some addresses, since some time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Code {
    start: u64,
    end: u64,
    offset: u64,
    name: Arc<str>,
    from_ns: u64,
}

/// One program that a process ran; forked processes share what was mapped before the fork.
#[derive(Clone, Debug, Default)]
struct Program {
    comm: Arc<str>,
    code: Arc<Vec<Code>>,
}

/// The executable mappings of one process.
#[derive(Clone, Debug)]
pub struct CodeMap {
    programs: VecDeque<Program>,
    /// Programs dropped at the front.
    dropped: u32,
}

/// What is behind an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodePlace {
    /// Path or bracketed name.
    pub name: Arc<str>,
    /// Offset in the file.
    pub offset: u64,
    /// Since when it was mapped there, monotonic ns.
    pub mapped_ns: u64,
    /// The mapping: first address, and one past the last.
    pub range: (u64, u64),
}

impl Default for CodeMap {
    fn default() -> CodeMap {
        CodeMap { programs: VecDeque::from([Program::default()]), dropped: 0 }
    }
}

impl CodeMap {
    /// Takes over one event, at a monotonic time in ns.
    pub fn apply(&mut self, at_ns: u64, event: &MapEventKind) {
        match event {
            MapEventKind::Map(mapping) => self.map(at_ns, mapping),
            MapEventKind::Exec => self.exec(),
        }
    }

    /// Names the present program.
    pub fn set_comm(&mut self, comm: &str) {
        if let Some(program) = self.programs.back_mut() {
            program.comm = comm.into();
        }
    }

    /// The code of a child forked now.
    #[must_use]
    pub fn fork(&self) -> CodeMap {
        CodeMap { programs: self.programs.back().cloned().into_iter().collect(), dropped: 0 }
    }

    /// The name of the program after `execs` execs.
    pub fn comm(&self, execs: u32) -> Arc<str> {
        self.program(execs).map(|program| Arc::clone(&program.comm)).unwrap_or_default()
    }

    /// What was at an address at a time, in the program after `execs` execs.
    pub fn find(&self, execs: u32, address: u64, at_ns: u64) -> Option<CodePlace> {
        let program = self.program(execs)?;
        let mut holding = program.code.iter().filter(|code| (code.start..code.end).contains(&address));
        let first = holding.clone().next()?;
        // The latest that was there by then; the clock of the stacks is a coarse one.
        let code = holding.rfind(|code| code.from_ns <= at_ns).unwrap_or(first);
        let offset = address.wrapping_sub(code.start).wrapping_add(code.offset);
        let range = (code.start, code.end);
        Some(CodePlace { name: Arc::clone(&code.name), offset, mapped_ns: code.from_ns, range })
    }

    fn program(&self, execs: u32) -> Option<&Program> {
        let index = usize::try_from(execs.checked_sub(self.dropped)?).ok()?;
        // An exec whose record was lost: the last program is the nearest.
        self.programs.get(index).or_else(|| self.programs.back())
    }

    fn map(&mut self, at_ns: u64, mapping: &Mapping) {
        let named = mapping.name.starts_with(['/', '[']);
        let Some(program) = self.programs.back_mut() else { return };
        if !mapping.perms.execute || !named || mapping.start >= mapping.end {
            return;
        }
        let Mapping { start, end, offset, ref name, .. } = *mapping;
        let same = |code: &Code| {
            code.start == start && code.end == end && code.offset == offset && code.name == *name
        };
        let known = program.code.iter().rev().find(|code| code.start < end && start < code.end);
        if program.code.len() < MAX_MAPPINGS && !known.is_some_and(same) {
            let code = Code { start, end, offset, name: Arc::clone(name), from_ns: at_ns };
            Arc::make_mut(&mut program.code).push(code);
        }
    }

    fn exec(&mut self) {
        self.programs.push_back(Program::default());
        if self.programs.len() > MAX_PROGRAMS {
            self.programs.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Perms;

    fn code(start: u64, offset: u64, name: &str) -> MapEventKind {
        let perms = Perms { execute: true, write: false, ..Perms::PRIVATE };
        MapEventKind::Map(Mapping { start, end: start + 0x1000, perms, offset, name: name.into() })
    }

    fn found(map: &CodeMap, execs: u32, address: u64, at_ns: u64) -> Option<(String, u64)> {
        map.find(execs, address, at_ns).map(|place| (place.name.to_string(), place.offset))
    }

    #[test]
    fn each_program_has_its_own_code() {
        let mut shell = CodeMap::default();
        shell.set_comm("sh");
        shell.apply(1, &code(0x4000, 0x1000, "/bin/sh"));
        let mut child = shell.fork();
        child.apply(5, &MapEventKind::Exec);
        child.set_comm("ls");
        child.apply(6, &code(0x4000, 0x3000, "/bin/ls"));
        assert_eq!(found(&child, 0, 0x4010, 9), Some(("/bin/sh".to_owned(), 0x1010)));
        assert_eq!(found(&child, 1, 0x4010, 9), Some(("/bin/ls".to_owned(), 0x3010)));
        assert_eq!(found(&child, 7, 0x4010, 9), Some(("/bin/ls".to_owned(), 0x3010)), "a lost exec");
        assert_eq!((&*child.comm(0), &*child.comm(1), &*shell.comm(0)), ("sh", "ls", "sh"));
        assert_eq!(found(&child, 1, 0x5000, 9), None);
    }

    #[test]
    fn the_time_tells_which_library_was_there() {
        let mut map = CodeMap::default();
        map.apply(10, &code(0x7000, 0, "/a.so"));
        map.apply(20, &code(0x7000, 0, "/b.so"));
        map.apply(30, &code(0x7000, 0, "/b.so"));
        assert_eq!(found(&map, 0, 0x7001, 5), Some(("/a.so".to_owned(), 1)));
        assert_eq!(found(&map, 0, 0x7001, 15), Some(("/a.so".to_owned(), 1)));
        assert_eq!(found(&map, 0, 0x7001, 99), Some(("/b.so".to_owned(), 1)));
        assert_eq!(map.programs[0].code.len(), 2);
    }

    #[test]
    fn data_and_nameless_memory_are_left_out_and_programs_are_bounded() {
        let mut map = CodeMap::default();
        let data = Mapping { start: 0, end: 1, perms: Perms::PRIVATE, offset: 0, name: "/bin/sh".into() };
        map.apply(1, &MapEventKind::Map(data));
        map.apply(1, &code(0x1000, 0, ""));
        assert!(map.programs[0].code.is_empty());
        for _ in 0..100 {
            map.apply(2, &MapEventKind::Exec);
        }
        map.set_comm("last");
        assert_eq!((map.programs.len(), map.comm(0).len(), &*map.comm(100)), (MAX_PROGRAMS, 0, "last"));
    }
}
