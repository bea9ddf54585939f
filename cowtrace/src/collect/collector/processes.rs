//! The processes of a session, by the order in which they became known and by identity.

use std::{
    collections::{HashMap, HashSet},
    ops::{Index, IndexMut},
};

use super::{ProcessState, forget};

/// Processes at places, which change when some are dropped.
#[derive(Default)]
pub(super) struct Processes {
    list: Vec<ProcessState>,
    /// Place by session-wide identity, [`cowtrace_abi::ProcSlot::id`].
    by_id: HashMap<u64, usize>,
}

impl Processes {
    /// Adds one behind the others, and tells its place.
    pub(super) fn push(&mut self, process: ProcessState) -> usize {
        let place = self.list.len();
        self.by_id.insert(process.slot.id, place);
        self.list.push(process);
        place
    }

    /// Where the process with this identity is.
    pub(super) fn place(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The process with this identity.
    pub(super) fn of(&self, id: u64) -> Option<&ProcessState> {
        self.list.get(self.place(id)?)
    }

    /// The same, to be changed.
    pub(super) fn of_mut(&mut self, id: u64) -> Option<&mut ProcessState> {
        let place = self.place(id)?;
        self.list.get_mut(place)
    }

    /// The identity of the process that forked the one with this identity; 0 if it was there before the session.
    pub(super) fn parent_id(&self, child_id: u64) -> Option<u64> {
        Some(self.of(child_id)?.slot.forked_from)
    }

    /// The process that forked the one with this identity.
    pub(super) fn parent(&self, child_id: u64) -> Option<&ProcessState> {
        self.of(self.parent_id(child_id)?)
    }

    /// The one at a place.
    pub(super) fn at(&self, place: usize) -> Option<&ProcessState> {
        self.list.get(place)
    }

    /// Places of those that have not ended.
    pub(super) fn living(&self) -> impl Iterator<Item = usize> + '_ {
        self.list.iter().enumerate().filter(|(_, process)| process.slot.end_ns == 0).map(|(place, _)| place)
    }

    /// All of them, by place.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, ProcessState> {
        self.list.iter()
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, ProcessState> {
        self.list.iter_mut()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Drops those with these identities, and tells where each of the others has gone.
    pub(super) fn drop_all(&mut self, gone: &HashSet<u64>) -> Vec<Option<usize>> {
        let places = forget::places(self.list.iter().map(|process| !gone.contains(&process.slot.id)));
        self.list.retain(|process| !gone.contains(&process.slot.id));
        self.by_id.retain(|_, place| forget::moved(&places, place));
        places
    }
}

impl Index<usize> for Processes {
    type Output = ProcessState;

    fn index(&self, place: usize) -> &ProcessState {
        &self.list[place]
    }
}

impl IndexMut<usize> for Processes {
    fn index_mut(&mut self, place: usize) -> &mut ProcessState {
        &mut self.list[place]
    }
}

impl FromIterator<ProcessState> for Processes {
    fn from_iter<I: IntoIterator<Item = ProcessState>>(all: I) -> Processes {
        let mut processes = Processes::default();
        for process in all {
            processes.push(process);
        }
        processes
    }
}
