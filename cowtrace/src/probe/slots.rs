//! The arrays that the programs and user space share.

use std::error::Error;

use aya::{
    Ebpf,
    maps::{Map, MapError},
};
use cowtrace_abi::{ProcSlot, Shared, TaskSlot};

use super::{ProbeError, shared_array::SharedArray};

/// The arrays that programs and user space share.
pub struct Slots {
    index: SharedArray<u32>,
    tasks: SharedArray<TaskSlot>,
    procs: SharedArray<ProcSlot>,
    shared: SharedArray<Shared>,
}

/// What was tried with a map, and the kernel's answer.
pub(super) fn map_error<E: Error + 'static>(action: &str) -> impl FnOnce(E) -> ProbeError {
    let action = action.to_owned();
    move |error| ProbeError::Map { action, answer: ProbeError::kernels_answer(&error) }
}

/// Takes a map out of the object.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    object: &mut Ebpf,
    name: &str,
) -> Result<T, ProbeError> {
    let map = object.take_map(name).ok_or_else(|| ProbeError::Map {
        action: format!("find the map {name}"),
        answer: "it is not in the object".to_owned(),
    })?;
    T::try_from(map).map_err(map_error(&format!("open the map {name}")))
}

/// Slot numbers of the process that the session starts with.
const FIRST_TASK: u32 = 1;
const FIRST_PROC: u32 = 1;

impl Slots {
    /// Takes them out of the object.
    pub(super) fn of(object: &mut Ebpf) -> Result<Slots, ProbeError> {
        Ok(Slots {
            index: SharedArray::of(object, "INDEX")?,
            tasks: SharedArray::of(object, "TASKS")?,
            procs: SharedArray::of(object, "PROCS")?,
            shared: SharedArray::of(object, "SHARED")?,
        })
    }

    /// Begins to trace a process with one thread, as the session's first.
    pub fn adopt(&mut self, process: &ProcSlot) -> Result<(), ProbeError> {
        let shared = Shared { next_task: 1, next_proc: 1, next_id: process.id, live: 1, ..Shared::default() };
        let task = TaskSlot { proc_index: FIRST_PROC, tid: process.tgid, ..TaskSlot::default() };
        self.shared.set(0, &shared).map_err(map_error("set the shared state"))?;
        self.procs.set(FIRST_PROC, process).map_err(map_error("set the process's slot"))?;
        self.tasks.set(FIRST_TASK, &task).map_err(map_error("set the thread's slot"))?;
        self.index.set(process.tgid, &FIRST_TASK).map_err(map_error("register the thread"))
    }

    /// The slot of a thread that is traced, with its index.
    pub fn thread(&self, tid: u32) -> Option<(u32, TaskSlot)> {
        let index = self.index.get(tid).ok().filter(|&index| index != 0)?;
        Some((index, self.tasks.get(index).ok()?))
    }

    /// Session-wide state.
    pub fn shared(&self) -> Result<Shared, ProbeError> {
        self.shared.get(0).map_err(map_error("read the shared state"))
    }

    /// Slots of all processes whose end was not reported, with what they counted so far.
    pub fn live_processes(&self) -> Result<Vec<ProcSlot>, ProbeError> {
        Ok(self.live_processes_by_index()?.into_iter().map(|(_, slot)| slot).collect())
    }

    /// The same, with their index.
    pub fn live_processes_by_index(&self) -> Result<Vec<(u32, ProcSlot)>, ProbeError> {
        let used = self.shared()?.next_proc.min(u64::from(self.procs.len()) - 1);
        let slots = (1..=used as u32).filter_map(|index| Some((index, self.procs.get(index).ok()?)));
        Ok(slots.filter(|(_, slot)| slot.id != 0).collect())
    }

    /// Slots of all traced threads, with their index.
    pub fn live_tasks(&self) -> Result<Vec<(u32, TaskSlot)>, ProbeError> {
        let used = self.shared()?.next_task.min(u64::from(self.tasks.len()));
        let slots = (1..=used as u32).filter_map(|index| Some((index, self.tasks.get(index).ok()?)));
        Ok(slots.filter(|(index, slot)| self.index.get(slot.tid).is_ok_and(|i| i == *index)).collect())
    }

    /// Traces no thread any longer.
    pub(super) fn forget_threads(&mut self) -> Result<(), ProbeError> {
        for (_, slot) in self.live_tasks()? {
            self.index.set(slot.tid, &0).map_err(map_error("forget a thread"))?;
        }
        Ok(())
    }

    /// The process slot at an index.
    pub fn process(&self, index: u32) -> Result<ProcSlot, ProbeError> {
        self.procs.get(index).map_err(map_error("read a process's slot"))
    }

    /// Overwrites a thread's slot; only while that thread cannot fault.
    pub fn set_task(&mut self, index: u32, slot: &TaskSlot) -> Result<(), ProbeError> {
        self.tasks.set(index, slot).map_err(map_error("set a thread's slot"))
    }
}
