//! Pages that KSM has merged since the first reading.

use std::collections::BTreeSet;

use super::{Family, Frame, Held, Standing, frame_at};
use crate::ledger::Reason;

/// A page that lies on another frame than events say.
struct Merged {
    pid: u32,
    page: u64,
    /// Where it lies according to the events.
    from: usize,
    was_private: bool,
    /// Number of the frame that the second reading shows.
    to: u64,
}

impl Family<'_> {
    /// Puts the merged pages of the second reading on their common frames.
    pub(super) fn settle_merged(&mut self) {
        let merged = self.newly_merged();
        for Merged { pid, page, from, was_private, .. } in &merged {
            self.frames[*from].unmap(*pid, *page);
            if *was_private {
                self.note(*pid, *page, Reason::Merged, -1);
            }
        }
        // Whoever shared such a page, and still has it as it was, has it alone now.
        let mut left: Vec<usize> = merged.iter().filter(|m| !m.was_private).map(|m| m.from).collect();
        left.sort_unstable();
        left.dedup();
        for frame in left {
            if let Some((pid, page)) = self.frames[frame].only_mapping() {
                self.note(pid, page, Reason::UnsharedByOthers, 1);
            }
        }
        self.put_together(&merged);
    }

    /// Not among them: a page that lies on the KSM frame of the first reading. It was merged before, and an event that
    /// says it has been written since must stay visible.
    fn newly_merged(&self) -> Vec<Merged> {
        let mut found = Vec::new();
        for snapshot in self.after {
            let Some(member) = self.members.get(&snapshot.pid).filter(|member| member.alive) else {
                continue;
            };
            for anon in snapshot.anon.iter().filter(|anon| anon.merged && !anon.mapped_once) {
                let (pid, page) = (snapshot.pid, anon.page);
                let Some(held) = member.pages.get(page) else { continue };
                let known = self.merged.contains_key(&anon.frame)
                    && frame_at(self.before, pid, page) == Some(anon.frame);
                if !known {
                    let was_private = self.frames[held.frame].private();
                    found.push(Merged { pid, page, from: held.frame, was_private, to: anon.frame });
                }
            }
        }
        found
    }

    fn put_together(&mut self, merged: &[Merged]) {
        let numbers: BTreeSet<u64> = merged.iter().map(|merged| merged.to).collect();
        for number in numbers {
            let frame = *self.merged.entry(number).or_insert_with(|| {
                self.frames.push(Frame::default());
                self.frames.len() - 1
            });
            // The last page of an earlier merger has company again.
            if let Some((pid, page)) = self.frames[frame].only_mapping() {
                self.note(pid, page, Reason::Merged, -1);
            }
        }
        for Merged { pid, page, to, .. } in merged {
            let Some(&frame) = self.merged.get(to) else { continue };
            self.frames[frame].map(*pid, *page);
            if let Some(member) = self.members.get_mut(pid) {
                member.pages.insert(*page, Held { frame, standing: Standing::Inherited });
            }
        }
    }
}
