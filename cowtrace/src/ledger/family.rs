//! Plays a family of processes through its events: who maps which frame, and who maps one alone.

mod merged;
mod repeated;

use std::collections::{HashMap, HashSet};

use cowtrace_abi::Kind;

use super::{Known, Reason};
use crate::{model::FamilyEvent, proc::Snapshot};

/// A page of a process became private and dirty (+1) or ceased to be (-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub pid: u32,
    /// Which of the process's lives: 0 until its first exec or exit, then 1.
    pub image: u32,
    pub page: u64,
    pub reason: Reason,
    pub amount: i8,
}

/// A frame and its mappings inside the family.
///
/// Only the last remaining one is ever asked for, so the mappings are kept as a number and an exclusive or.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    mappings: u32,
    pid_xor: u32,
    page_xor: u64,
    /// Mapped outside the family as well, so never private.
    elsewhere: bool,
}

impl Frame {
    fn map(&mut self, pid: u32, page: u64) {
        self.mappings += 1;
        self.pid_xor ^= pid;
        self.page_xor ^= page;
    }

    fn unmap(&mut self, pid: u32, page: u64) {
        self.mappings -= 1;
        self.pid_xor ^= pid;
        self.page_xor ^= page;
    }

    /// What smaps calls private; anonymous pages are always dirty.
    fn private(&self) -> bool {
        self.mappings == 1 && !self.elsewhere
    }

    /// The process and the page that have it, if it is private.
    fn only_mapping(&self) -> Option<(u32, u64)> {
        self.private().then_some((self.pid_xor, self.page_xor))
    }
}

/// How a process came to map a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// At the first reading. Mapped alone, it is private to smaps; whether the kernel takes it for exclusive,
    /// and so never copies it, is not visible.
    Inherited,
    /// Shared by a fork between the readings.
    Forked,
    /// A fault of its own made it, and no fork since has shared it.
    Own,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    frame: usize,
    standing: Standing,
}

#[derive(Clone, Debug, Default)]
struct Member {
    pages: HashMap<u64, Held>,
    image: u32,
    alive: bool,
}

/// The family between two readings.
pub(super) struct Family<'a> {
    before: &'a [Snapshot],
    after: &'a [Snapshot],
    members: HashMap<u32, Member>,
    frames: Vec<Frame>,
    /// Frames of KSM pages, by number.
    merged: HashMap<u64, usize>,
    /// Children of vfork, and whose memory they use.
    guests: HashMap<u32, u32>,
    known: Known,
    /// Process and page of more than one copy between the readings.
    repeated: HashSet<(u32, u64)>,
    /// What moved so far.
    pub moves: Vec<Move>,
}

impl<'a> Family<'a> {
    /// The family as the first reading shows it.
    pub fn new(
        before: &'a [Snapshot],
        after: &'a [Snapshot],
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
            repeated: repeated::copies(events),
            moves: Vec::new(),
        };
        let mut seen: HashMap<u64, usize> = HashMap::new();
        let mut mapped_once = Vec::new();
        for snapshot in before {
            let mut member = Member { alive: true, ..Member::default() };
            for anon in &snapshot.anon {
                let frame = *seen.entry(anon.frame).or_insert_with(|| {
                    family.frames.push(Frame::default());
                    mapped_once.push(anon.mapped_once);
                    family.frames.len() - 1
                });
                family.frames[frame].map(snapshot.pid, anon.page);
                if anon.merged {
                    family.merged.insert(anon.frame, frame);
                }
                member.pages.insert(anon.page, Held { frame, standing: Standing::Inherited });
            }
            family.members.insert(snapshot.pid, member);
        }
        for (frame, once) in family.frames.iter_mut().zip(mapped_once) {
            frame.elsewhere = frame.mappings == 1 && !once;
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
            for (&page, held) in &member.pages {
                let mapped = snapshot.vma_of(page).is_some_and(|vma| vma.ordinary);
                // A page with an event of its own must be there: its absence would speak against the event.
                let can_go = held.standing != Standing::Own || self.known.may_discard;
                let discarded = can_go && snapshot.anon_page(page).is_none();
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
        let (image, child_image) = (self.image(parent), self.image(child));
        let mut inherited = HashMap::new();
        if let Some(member) = self.members.get_mut(&parent) {
            for (&page, held) in &mut member.pages {
                if lost_at_fork(self.before, self.after, parent, page) {
                    continue;
                }
                if self.known.pinned.contains(&(page * page_size(self.after)))
                    && copied_at_fork(self.before, self.after, parent, child, page)
                {
                    let mut own = Frame::default();
                    own.map(child, page);
                    self.frames.push(own);
                    inherited.insert(page, Held { frame: self.frames.len() - 1, standing: Standing::Own });
                    let (pid, image) = (child, child_image);
                    self.moves.push(Move { pid, image, page, reason: Reason::Pinned, amount: 1 });
                    continue;
                }
                let frame = &mut self.frames[held.frame];
                if frame.private() {
                    self.moves.push(Move { pid: parent, image, page, reason: Reason::GivenUp, amount: -1 });
                }
                frame.map(child, page);
                held.standing = Standing::Forked;
                inherited.insert(page, *held);
            }
        }
        let member = self.members.entry(child).or_default();
        member.pages = inherited;
        member.alive = true;
    }

    /// The process's memory is gone: it exited, or became another program.
    fn end(&mut self, pid: u32) {
        let pages: Vec<u64> =
            self.members.get(&pid).map(|member| member.pages.keys().copied().collect()).unwrap_or_default();
        for page in pages {
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
                if let Some(held) = self.members.get_mut(&pid).and_then(|member| member.pages.get_mut(&page))
                {
                    held.standing = Standing::Own;
                }
                return;
            }
            // hugetlb pages are not in Private_Dirty; a page copied by fork (pinned) is its child's, and no
            // fault; the rest changes no frame.
            Kind::Hugetlb | Kind::HugetlbReuse | Kind::Pinned | Kind::Shared | Kind::Denied => return,
        };
        // A page that is written for the first time was not there; that is another matter than a copy of it.
        let anew = !matches!(kind, Kind::Copy | Kind::Ksm);
        let replaced = (anew && self.known.may_discard) || self.may_be_replaced(pid, page);
        self.unmap(pid, page, replaced);
        let frame = self.frames.len();
        let mut own = Frame::default();
        own.map(pid, page);
        self.frames.push(own);
        let member = self.members.entry(pid).or_default();
        member.alive = true;
        member.pages.insert(page, Held { frame, standing: Standing::Own });
        let image = member.image;
        self.moves.push(Move { pid, image, page, reason, amount: 1 });
    }

    /// Whether a page that is private already can really have got a new frame by a fault.
    ///
    /// Where it cannot, the event is one too many, and must stay visible: the old frame is then not written
    /// off.
    fn may_be_replaced(&self, pid: u32, page: u64) -> bool {
        let Some(held) = self.members.get(&pid).and_then(|member| member.pages.get(&page)) else {
            return false;
        };
        match held.standing {
            Standing::Own => return false,
            // Events of one process are in order, those of two only roughly: a copy that seems to come after the
            // other's exit may have come before it. Where that happens more than once, frames tell nothing: the
            // first one may be back.
            Standing::Forked if self.repeated.contains(&(pid, page)) => return true,
            Standing::Forked | Standing::Inherited => {}
        }
        // Private since the others left, or all along. The kernel copies such a page once more if something
        // else still refers to it; then its frame is another one now.
        frame_at(self.before, pid, page) != frame_at(self.after, pid, page)
    }

    /// The process maps this page no longer. `written_off`: if it was private, that is one private page less.
    fn unmap(&mut self, pid: u32, page: u64, written_off: bool) {
        let Some(member) = self.members.get_mut(&pid) else { return };
        let image = member.image;
        let Some(held) = member.pages.remove(&page) else { return };
        let frame = &mut self.frames[held.frame];
        let was_private = frame.private();
        frame.unmap(pid, page);
        if was_private {
            if written_off {
                self.moves.push(Move { pid, image, page, reason: Reason::Unmapped, amount: -1 });
            }
        } else if let Some((pid, page)) = frame.only_mapping() {
            let image = self.image(pid);
            self.moves.push(Move { pid, image, page, reason: Reason::UnsharedByOthers, amount: 1 });
        }
    }
}

/// Whether the child's page is another one than its parent's, as far as can be seen: both are there to be seen.
fn copied_at_fork(before: &[Snapshot], after: &[Snapshot], parent: u32, child: u32, page: u64) -> bool {
    let of_parent = frame_at(after, parent, page).or_else(|| frame_at(before, parent, page));
    matches!((of_parent, frame_at(after, child, page)), (Some(one), Some(other)) if one != other)
}

/// Number of the frame behind an anonymous page at a reading.
fn frame_at(side: &[Snapshot], pid: u32, page: u64) -> Option<u64> {
    let snapshot = side.iter().find(|snapshot| snapshot.pid == pid)?;
    snapshot.anon_page(page).map(|anon| anon.frame)
}

fn page_size(side: &[Snapshot]) -> u64 {
    side.first().map_or(0, |snapshot| snapshot.page_size)
}

fn lost_at_fork(before: &[Snapshot], after: &[Snapshot], pid: u32, page: u64) -> bool {
    let vma = |side: &'_ [Snapshot]| {
        let snapshot = side.iter().find(|snapshot| snapshot.pid == pid)?;
        snapshot.vma_of(page).map(|vma| vma.lost_at_fork)
    };
    vma(after).or_else(|| vma(before)).unwrap_or(false)
}
