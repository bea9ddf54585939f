//! Pages that a process copied more than once between two readings, as one does that forks again and again.

use std::collections::HashMap;

use cowtrace_abi::Kind;

use crate::{ledger::table::Table, model::FamilyEvent};

/// These pages, by process.
#[derive(Debug, Default)]
pub(super) struct Repeated(HashMap<u32, Table>);

impl Repeated {
    /// Those of these events.
    pub fn of(events: &[FamilyEvent]) -> Repeated {
        let (mut once, mut more) = (HashMap::<u32, Table>::new(), Repeated::default());
        for event in events {
            match event {
                FamilyEvent::Pages { pid, kind: Kind::Copy | Kind::Ksm, pages, .. } => {
                    let seen = once.entry(*pid).or_default();
                    for &page in pages {
                        if seen.get(page).is_some() {
                            more.0.entry(*pid).or_default().insert(page, 1);
                        }
                        seen.insert(page, 1);
                    }
                }
                // Its memory is gone, and nobody asks for it any more.
                FamilyEvent::Exit { pid } => {
                    once.remove(pid);
                }
                _ => {}
            }
        }
        more
    }

    /// Whether this page is one of them.
    pub fn contains(&self, pid: u32, page: u64) -> bool {
        self.0.get(&pid).is_some_and(|pages| pages.get(page).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{Explained, Known, explain},
        proc::{AnonPage, Snapshot, Vma},
    };

    const PARENT: u32 = 100;
    const CHILD: u32 = 101;

    /// The parent with one private page.
    fn parent(frame: u64) -> Snapshot {
        let vma = Vma {
            start: 0x1000,
            end: 0x2000,
            perms: "rw-p".into(),
            private_dirty_kb: 4,
            ordinary: true,
            ..Vma::default()
        };
        let page = AnonPage { page: 1, frame, mapped_once: true, merged: false };
        Snapshot { pid: PARENT, page_size: 4096, vmas: vec![vma], anon: vec![page] }
    }

    fn copy() -> FamilyEvent {
        FamilyEvent::Pages { pid: PARENT, kind: Kind::Copy, pages: vec![1], faults: 1 }
    }

    /// A child comes and goes; the parent's copy is reported at its next fork only.
    fn cycle() -> [FamilyEvent; 3] {
        [FamilyEvent::Fork { parent: PARENT, child: CHILD }, FamilyEvent::Exit { pid: CHILD }, copy()]
    }

    #[test]
    fn copies_after_each_of_several_forks_are_explained_though_the_first_frame_is_back() {
        let events: Vec<FamilyEvent> = cycle().into_iter().chain(cycle()).collect();
        for frame in [500, 700] {
            let rows = explain(&[parent(500)], &events, &[parent(frame)], Known::default());
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].residual_pages, 0, "{rows:?}");
            let expected = Explained {
                copy: 2,
                given_up: -2,
                unshared_by_others: 2,
                unmapped: -2,
                ..Explained::default()
            };
            assert_eq!(rows[0].explained_pages, expected);
        }
    }

    #[test]
    fn an_event_too_many_is_left_over() {
        let residual = |events: &[FamilyEvent], frame| {
            explain(&[parent(500)], events, &[parent(frame)], Known::default())[0].residual_pages
        };
        // One copy, and the frame is the old one.
        assert_eq!(residual(&cycle(), 500), -1);
        assert_eq!(residual(&cycle(), 700), 0);
        // Twice after one fork.
        let twice: Vec<FamilyEvent> = cycle().into_iter().chain([copy()]).collect();
        assert_eq!(residual(&twice, 700), -1);
        // Without any fork.
        assert_eq!(residual(&[copy(), copy()], 500), -2);
    }
}
