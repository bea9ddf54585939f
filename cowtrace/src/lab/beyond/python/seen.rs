//! What the tracer and `/proc` showed of the children.

use std::collections::BTreeSet;

use cowtrace_abi::Kind;

use super::{
    CHILDREN, FORKED, GONE, ROLES, checkpoint,
    interpreter::Interpreter,
    memory::{Memory, Pages},
};
use crate::{
    lab::{
        report::Figures,
        story::{Checkpoint, Observed, PARENT, Story},
    },
    model::FamilyEvent,
    proc::Snapshot,
};

/// The story, and where the script's objects are.
pub(super) struct Seen<'a> {
    pub story: &'a Story,
    pub memory: &'a Memory,
    pub python: &'a Interpreter,
}

impl Seen<'_> {
    /// The moment at which this child had taken this step.
    pub fn at(&self, role: usize, step: &str) -> Option<&Checkpoint> {
        self.story.checkpoint(&checkpoint(role, step))
    }

    /// The parent and this child at that moment.
    pub fn both(&self, role: usize, step: &str) -> Option<(&Observed, &Observed)> {
        let checkpoint = self.at(role, step)?;
        Some((checkpoint.process(PARENT)?, checkpoint.process(role)?))
    }

    /// Of these pages, those with a frame of the child's own and another one of the parent's.
    pub fn parted(&self, pages: &Pages, role: usize, step: &str) -> Option<u64> {
        let (parent, child) = self.both(role, step)?;
        Some(pages.iter().filter(|&page| parent.frame(page) != child.frame(page)).count() as u64)
    }

    /// Of these pages, those that the parent or this child has copied since the fork.
    pub fn copied(&self, pages: &Pages, role: usize) -> Option<u64> {
        let (parent, child) = self.both(role, FORKED)?;
        let pids = [parent.snapshot.pid, child.snapshot.pid];
        let mut copied: BTreeSet<u64> = BTreeSet::new();
        for step in steps(role) {
            for event in &self.at(role, step)?.events {
                if let FamilyEvent::Pages { pid, kind: Kind::Copy, pages: hit, .. } = event
                    && pids.contains(pid)
                {
                    copied.extend(hit.iter().filter(|&&page| pages.contains(page)));
                }
            }
        }
        Some(copied.len() as u64)
    }

    /// Faults of this process on the way to this checkpoint: of this kind, or of any.
    pub fn faults(&self, pid: u32, kind: Option<Kind>, role: usize, step: &str) -> Option<u64> {
        let count = |event: &FamilyEvent| match event {
            FamilyEvent::Pages { pid: of, kind: is, faults, .. }
                if *of == pid && kind.is_none_or(|kind| kind == *is) =>
            {
                *faults
            }
            _ => 0,
        };
        Some(self.at(role, step)?.events.iter().map(count).sum())
    }

    /// Copies of this child on the way to this checkpoint.
    pub fn copies(&self, role: usize, step: &str) -> Option<u64> {
        let (_, child) = self.both(role, FORKED)?;
        self.faults(child.snapshot.pid, Some(Kind::Copy), role, step)
    }

    /// What each child copied, and where.
    pub fn table(&self) -> Figures {
        let Memory { texts, headers, .. } = self.memory;
        let title = format!(
            "What each child copied ({}; {} pages of strings, {} of instances)",
            self.python,
            texts.count(),
            headers.count()
        );
        let columns = [
            "child",
            "pages shared at the fork",
            "copies",
            "of the strings' pages, %",
            "of the instances' pages, %",
            "in [heap]",
            "in anonymous memory",
            "in program and libraries",
            "in [stack]",
        ];
        let rows = CHILDREN.into_iter().filter_map(|(role, _)| self.row(role)).collect();
        Figures { title, columns: columns.map(String::from).to_vec(), rows }
    }

    fn row(&self, role: usize) -> Option<Vec<String>> {
        let (parent, child) = self.both(role, FORKED)?;
        let pages = &child.snapshot.anon;
        let shared = pages.iter().filter(|anon| parent.frame(anon.page) == Some(anon.frame)).count();
        let mut copied = Vec::new();
        for step in steps(role) {
            for event in &self.at(role, step)?.events {
                if let FamilyEvent::Pages { pid, kind: Kind::Copy, pages, .. } = event
                    && *pid == child.snapshot.pid
                {
                    copied.extend_from_slice(pages);
                }
            }
        }
        let of = |set: &Pages| copied.iter().filter(|&&page| set.contains(page)).count() as u64;
        let part = |set: &Pages| format!("{:.1}", of(set) as f64 * 100.0 / set.count().max(1) as f64);
        let place = |place| copied.iter().filter(|&&page| Place::of(&child.snapshot, page) == place).count();
        let mut row = vec![ROLES[role].to_owned(), shared.to_string(), copied.len().to_string()];
        row.extend([part(&self.memory.texts), part(&self.memory.headers)]);
        row.extend([Place::Heap, Place::Anonymous, Place::File, Place::Stack].map(|p| place(p).to_string()));
        Some(row)
    }
}

/// All checkpoints of a child.
fn steps(role: usize) -> impl Iterator<Item = &'static str> {
    let own =
        CHILDREN.into_iter().filter(move |(of, _)| *of == role).flat_map(|(_, steps)| steps.iter().copied());
    [FORKED].into_iter().chain(own).chain([GONE])
}

/// Kinds of mappings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Heap,
    Stack,
    File,
    /// Where Python's allocator has its arenas, and libc large blocks.
    Anonymous,
}

impl Place {
    fn of(snapshot: &Snapshot, page: u64) -> Place {
        match snapshot.vma_of(page).map_or("", |vma| vma.name.as_str()) {
            "[heap]" => Place::Heap,
            "[stack]" => Place::Stack,
            name if name.starts_with('/') => Place::File,
            _ => Place::Anonymous,
        }
    }
}
