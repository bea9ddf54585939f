//! Pages that a process copied more than once between two readings, as one does that forks again and again.

use std::collections::HashSet;

use cowtrace_abi::Kind;

use crate::model::FamilyEvent;

/// Process and page of each.
pub(super) fn copies(events: &[FamilyEvent]) -> HashSet<(u32, u64)> {
    let (mut once, mut more) = (HashSet::new(), HashSet::new());
    for event in events {
        match event {
            FamilyEvent::Pages { pid, kind: Kind::Copy | Kind::Ksm, pages, .. } => {
                for &page in pages {
                    if !once.insert((*pid, page)) {
                        more.insert((*pid, page));
                    }
                }
            }
            // Its memory is gone, and nobody asks for it any more.
            FamilyEvent::Exit { pid } => once.retain(|(of, _)| of != pid),
            _ => {}
        }
    }
    more
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
