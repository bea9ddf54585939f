//! Plays a family of processes through its events: who maps which frame, and who maps one alone.

mod frames;
mod merged;
mod readings;
mod repeated;

use std::collections::{BTreeMap, HashMap};

use cowtrace_abi::Kind;

use super::{Known, Reason, table::Table};
use crate::{model::FamilyEvent, proc::Snapshot};
use frames::{Frame, Held, Pages, Standing};
use readings::{Mappings, copied_at_fork, frame_at, page_size, reading};
use repeated::Repeated;

/// A page of a process became private and dirty (+1) or ceased to be (-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// Which of the process's lives: 0 until its first exec or exit, then 1.
    pub image: u32,
    pub page: u64,
    pub reason: Reason,
    pub amount: i8,
}

#[derive(Clone, Debug, Default)]
struct Member {
    pages: Pages,
    image: u32,
    alive: bool,
}

/// The family between two readings.
pub(super) struct Family<'a> {
    before: &'a [&'a Snapshot],
    after: &'a [&'a Snapshot],
    members: HashMap<u32, Member>,
    frames: Vec<Frame>,
    /// Frames of KSM pages, by number.
    merged: HashMap<u64, usize>,
    /// Children of vfork, and whose memory they use.
    guests: HashMap<u32, u32>,
    known: Known,
    repeated: Repeated,
    /// What moved so far, by process.
    pub moves: BTreeMap<u32, Vec<Move>>,
}

impl<'a> Family<'a> {
    /// The family as the first reading shows it.
    pub fn new(
        before: &'a [&'a Snapshot],
        after: &'a [&'a Snapshot],
        events: &[FamilyEvent],
        known: Known,
    ) -> Family<'a> {
        let mut family = Family {
            before,
            after,
            members: HashMap::new(),
            frames: Vec::new(),
            merged: HashMap::new(),
            guests: HashMap::new(),
            known,
            repeated: Repeated::of(events),
            moves: BTreeMap::new(),
        };
        // Which of the family's frames have been seen. All of them: pagemap calls each page of a huge page mapped once
        // if its first one is.
        let mut places = Table::default();
        for snapshot in before {
            let mut member = Member { alive: true, ..Member::default() };
            for anon in &snapshot.anon {
                let frame = match places.get(anon.frame) {
                    Some(place) => {
                        family.frames[place as usize].elsewhere = false;
                        place as usize
                    }
                    None => {
                        let place = family.frames.len();
                        places.insert(anon.frame, place as u32);
                        // Until another mapping turns up, a shared frame's partner is elsewhere.
                        family.frames.push(if anon.mapped_once { Frame::default() } else { Frame::shared() });
                        place
                    }
                };
                family.frames[frame].map(snapshot.pid, anon.page);
                if anon.merged {
                    family.merged.insert(anon.frame, frame);
                }
                member.pages.insert(anon.page, Held { frame, standing: Standing::Inherited });
            }
            family.members.insert(snapshot.pid, member);
        }
        family
    }

    /// The process's present life; see [`Move::image`].
    pub fn image(&self, pid: u32) -> u32 {
        self.members.get(&pid).map_or(0, |member| member.image)
    }

    /// The next event.
    pub fn apply(&mut self, event: &FamilyEvent) {
        match event {
            FamilyEvent::Fork { parent, child } => self.fork(self.owner(*parent), *child),
            FamilyEvent::Vfork { parent, child } => {
                self.guests.insert(*child, self.owner(*parent));
            }
            FamilyEvent::Exec { pid } => {
                self.guests.remove(pid);
                self.end(*pid);
                if let Some(member) = self.members.get_mut(pid) {
                    member.alive = true;
                }
            }
            FamilyEvent::Exit { pid } => {
                if self.guests.remove(pid).is_none() {
                    self.end(*pid);
                }
            }
            FamilyEvent::Pages { pid, kind, pages, .. } => {
                let owner = self.owner(*pid);
                for &page in pages {
                    self.fault(owner, *kind, page);
                }
            }
        }
    }

    /// What no event tells, but the second reading shows: pages that are no longer mapped, or merged by KSM.
    pub fn settle(&mut self) {
        self.settle_gone();
        self.settle_merged();
    }

    fn settle_gone(&mut self) {
        for snapshot in self.after {
            let pid = snapshot.pid;
            let Some(member) = self.members.get(&pid).filter(|member| member.alive) else { continue };
            let mut gone: Vec<u64> = Vec::new();
            let (mut mappings, mut present) = (Mappings::default(), snapshot.anon.iter().peekable());
            for (page, held) in member.pages.iter() {
                let mapped = mappings.of(snapshot, page).is_some_and(|vma| vma.ordinary);
                // A page with an event of its own must be there: its absence would speak against the event.
                let can_go = held.standing != Standing::Own || self.known.may_discard;
                while present.next_if(|anon| anon.page < page).is_some() {}
                let discarded = can_go && present.peek().is_none_or(|anon| anon.page != page);
                if !mapped || discarded {
                    gone.push(page);
                }
            }
            for page in gone {
                self.unmap(pid, page, true);
            }
        }
    }

    /// The process whose memory this one uses: its own, but for a child of vfork.
    fn owner(&self, pid: u32) -> u32 {
        self.guests.get(&pid).copied().unwrap_or(pid)
    }

    /// Whether the process is of the family; a tracer may see more.
    fn knows(&self, pid: u32) -> bool {
        self.members.contains_key(&pid) || self.after.iter().any(|snapshot| snapshot.pid == pid)
    }

    fn fork(&mut self, parent: u32, child: u32) {
        if !self.knows(parent) && !self.knows(child) {
            return;
        }
        if self.members.get(&child).is_some_and(|member| member.alive) {
            self.end(child);
        }
        let (before, after) = (reading(self.before, parent), reading(self.after, parent));
        let (mut mappings_before, mut mappings_after) = (Mappings::default(), Mappings::default());
        let mut inherited = Pages::default();
        for (page, held) in self.pages(parent) {
            let vma = after.and_then(|snapshot| mappings_after.of(snapshot, page));
            let vma = vma.or_else(|| mappings_before.of(before?, page));
            if vma.is_some_and(|vma| vma.lost_at_fork) {
                continue;
            }
            if self.known.pinned.contains(&(page * page_size(self.after)))
                && copied_at_fork(self.before, self.after, parent, child, page)
            {
                inherited.insert(page, Held { frame: self.frames.len(), standing: Standing::Own });
                self.frames.push(Frame::own(child, page));
                self.note(child, page, Reason::Pinned, 1);
                continue;
            }
            if self.frames[held.frame].private() {
                self.note(parent, page, Reason::GivenUp, -1);
            }
            self.frames[held.frame].map(child, page);
            let shared = Held { standing: Standing::Forked, ..held };
            if let Some(member) = self.members.get_mut(&parent) {
                member.pages.insert(page, shared);
            }
            inherited.insert(page, shared);
        }
        let member = self.members.entry(child).or_default();
        member.pages = inherited;
        member.alive = true;
    }

    /// What this process maps now.
    fn pages(&self, pid: u32) -> Vec<(u64, Held)> {
        self.members.get(&pid).map(|member| member.pages.iter().collect()).unwrap_or_default()
    }

    fn note(&mut self, pid: u32, page: u64, reason: Reason, amount: i8) {
        let image = self.image(pid);
        self.moves.entry(pid).or_default().push(Move { image, page, reason, amount });
    }

    /// The process's memory is gone: it exited, or became another program.
    fn end(&mut self, pid: u32) {
        for (page, _) in self.pages(pid) {
            self.unmap(pid, page, true);
        }
        if let Some(member) = self.members.get_mut(&pid) {
            member.image += 1;
            member.alive = false;
        }
    }

    fn fault(&mut self, pid: u32, kind: Kind, page: u64) {
        if !self.knows(pid) {
            return;
        }
        let reason = match kind {
            Kind::Copy => Reason::Copy,
            Kind::Zero => Reason::Zero,
            Kind::FileAfterRead | Kind::FileFirstWrite => Reason::File,
            Kind::Ksm => Reason::Ksm,
            Kind::Anon => Reason::Anon,
            Kind::Reuse => {
                if let Some(member) = self.members.get_mut(&pid)
                    && let Some(held) = member.pages.get(page)
                {
                    member.pages.insert(page, Held { standing: Standing::Own, ..held });
                }
                return;
            }
            // hugetlb pages are not in Private_Dirty; a page copied by fork (pinned) is its child's, and no
            // fault; the rest changes no frame.
            Kind::Hugetlb
            | Kind::HugetlbReuse
            | Kind::Pinned
            | Kind::Shared
            | Kind::Denied
            | Kind::Raced
            | Kind::HugeSplit => return,
        };
        // A page that is written for the first time was not there; that is another matter than a copy of it.
        let anew = !matches!(kind, Kind::Copy | Kind::Ksm);
        let replaced = (anew && self.known.may_discard) || self.may_be_replaced(pid, page);
        self.unmap(pid, page, replaced);
        let frame = self.frames.len();
        self.frames.push(Frame::own(pid, page));
        let member = self.members.entry(pid).or_default();
        member.alive = true;
        member.pages.insert(page, Held { frame, standing: Standing::Own });
        self.note(pid, page, reason, 1);
    }

    /// Whether a page that is private already can really have got a new frame by a fault.
    ///
    /// Where it cannot, the event is one too many, and must stay visible: the old frame is then not written
    /// off.
    fn may_be_replaced(&self, pid: u32, page: u64) -> bool {
        let Some(held) = self.members.get(&pid).and_then(|member| member.pages.get(page)) else {
            return false;
        };
        // A shared page is not asked about: the common case, and quick.
        if held.standing == Standing::Own || !self.frames[held.frame].private() {
            return false;
        }
        // Events of one process are in order, those of two only roughly: a copy that seems to come after the other's
        // copy or exit may have come before it, or at the same moment. Frames tell nothing of a process that is gone,
        // nor where it happened more than once: the first frame may be back.
        if held.standing == Standing::Forked
            && (reading(self.after, pid).is_none() || self.repeated.contains(pid, page))
        {
            return true;
        }
        // Private since the others left, or all along. The kernel copies such a page once more if something
        // else still refers to it; then its frame is another one now.
        frame_at(self.before, pid, page) != frame_at(self.after, pid, page)
    }

    /// The process maps this page no longer. `written_off`: if it was private, that is one private page less.
    fn unmap(&mut self, pid: u32, page: u64, written_off: bool) {
        let Some(held) = self.members.get_mut(&pid).and_then(|member| member.pages.remove(page)) else {
            return;
        };
        let frame = &mut self.frames[held.frame];
        let was_private = frame.private();
        frame.unmap(pid, page);
        if was_private {
            if written_off {
                self.note(pid, page, Reason::Unmapped, -1);
            }
        } else if let Some((pid, page)) = frame.only_mapping() {
            self.note(pid, page, Reason::UnsharedByOthers, 1);
        }
    }
}
