//! The log of a family's events, page by page and in order, for those who must explain each page.

use std::collections::HashMap;

use cowtrace_abi::Kind;

use crate::model::{FamilyEvent, PageBatch};

/// Grows until it is taken.
#[derive(Debug, Default)]
pub(super) struct PageLog {
    events: Vec<FamilyEvent>,
    /// How many of the events came before a process's last name, by [`cowtrace_abi::ProcSlot::id`].
    renamed: HashMap<u64, usize>,
}

impl PageLog {
    /// `parent` created `child`; `vfork`: both use the same page tables until the child execs.
    pub(super) fn fork(&mut self, parent: u32, child: u32, vfork: bool) {
        self.events.push(match vfork {
            true => FamilyEvent::Vfork { parent, child },
            false => FamilyEvent::Fork { parent, child },
        });
    }

    /// The process got a name; see [`cowtrace_abi::Renamed`].
    pub(super) fn renamed(&mut self, id: u64) {
        self.renamed.insert(id, self.events.len());
    }

    /// The process became another program. What it wrote since it got that program's name is the new program's.
    pub(super) fn exec(&mut self, id: u64, pid: u32) {
        let place = self.renamed.remove(&id).unwrap_or(self.events.len());
        self.events.insert(place, FamilyEvent::Exec { pid });
        for other in self.renamed.values_mut().filter(|other| **other > place) {
            *other += 1;
        }
    }

    /// The process is gone.
    pub(super) fn exit(&mut self, id: u64, pid: u32) {
        self.renamed.remove(&id);
        self.events.push(FamilyEvent::Exit { pid });
    }

    /// Faults of a process, unless they change no page of it.
    pub(super) fn pages(&mut self, pid: u32, batch: &PageBatch) {
        if batch.remote || matches!(batch.kind, Kind::Raced | Kind::HugeSplit) {
            return;
        }
        let (kind, pages, faults) = (batch.kind, batch.pages(), batch.faults);
        self.events.push(FamilyEvent::Pages { pid, kind, pages, faults });
    }

    /// Page events since the last call.
    pub(super) fn take(&mut self) -> Vec<FamilyEvent> {
        self.renamed.values_mut().for_each(|place| *place = 0);
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXEC: FamilyEvent = FamilyEvent::Exec { pid: 10 };

    fn writes(log: &mut PageLog, id: u64, window: u64) {
        let batch = PageBatch {
            id,
            kind: Kind::FileAfterRead,
            window,
            epoch: 0,
            bitmap: 1,
            faults: 1,
            span: 0,
            first_ns: 0,
            last_ns: 0,
            vma: None,
            remote: false,
            unplaced: false,
        };
        log.pages(id as u32 * 10, &batch);
    }

    /// Processes of the log's page events, and its execs, in order.
    fn order(log: &mut PageLog) -> Vec<String> {
        let word = |event: &FamilyEvent| match event {
            FamilyEvent::Pages { pid, pages, .. } => format!("{pid}: {}", pages[0] / 64),
            FamilyEvent::Exec { pid } => format!("{pid} execs"),
            other => format!("{other:?}"),
        };
        log.take().iter().map(word).collect()
    }

    #[test]
    fn what_is_written_since_the_last_name_is_the_new_programs() {
        let mut log = PageLog::default();
        writes(&mut log, 1, 5);
        // The program gave itself a name, and wrote on.
        log.renamed(1);
        writes(&mut log, 1, 6);
        log.renamed(2);
        log.renamed(1);
        writes(&mut log, 2, 7);
        log.renamed(3);
        writes(&mut log, 1, 8);
        log.exec(1, 10);
        writes(&mut log, 1, 9);
        log.exec(3, 30);
        log.exec(2, 20);
        let expected = ["10: 5", "10: 6", "20 execs", "10 execs", "20: 7", "30 execs", "10: 8", "10: 9"];
        assert_eq!(order(&mut log), expected);
    }

    #[test]
    fn a_name_that_was_not_seen_moves_nothing() {
        let mut log = PageLog::default();
        writes(&mut log, 1, 5);
        log.exec(1, 10);
        assert_eq!(log.events.last(), Some(&EXEC));
        log.renamed(1);
        log.exit(1, 10);
        assert!(log.renamed.is_empty());
        // What was taken cannot be sorted any more.
        log.renamed(1);
        assert_eq!(order(&mut log).len(), 3);
        writes(&mut log, 1, 6);
        log.exec(1, 10);
        assert_eq!(order(&mut log), ["10 execs", "10: 6"]);
    }
}
