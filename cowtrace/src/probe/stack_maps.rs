//! The maps in which the programs count copies by user stack.

use std::{
    collections::{HashMap as Table, HashSet},
    sync::Arc,
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use cowtrace_abi::{StackCount, StackKey, TakenStack, UserStack};

use super::{
    ProbeError,
    shared_array::SharedArray,
    slots::{map_error, take},
};

/// Copies of one kind that one process made from one stack.
#[derive(Clone, Debug)]
pub struct CountedStack {
    /// Which process, program and kind.
    pub key: StackKey,
    /// How many, and when the first was.
    pub count: StackCount,
    /// The stack.
    pub stack: Arc<UserStack>,
}

/// The maps.
pub struct StackMaps {
    counts: HashMap<MapData, StackKey, StackCount>,
    stacks: HashMap<MapData, u64, UserStack>,
    taken: SharedArray<TakenStack>,
}

impl StackMaps {
    /// Takes them out of the object.
    pub(super) fn of(object: &mut Ebpf) -> Result<StackMaps, ProbeError> {
        Ok(StackMaps {
            counts: take(object, "STACK_COUNTS")?,
            stacks: take(object, "STACKS")?,
            taken: SharedArray::of(object, "TAKEN_STACKS")?,
        })
    }

    /// All counts, in no order.
    pub fn counted(&self) -> Result<Vec<CountedStack>, ProbeError> {
        let mut stacks: Table<u64, Arc<UserStack>> = Table::new();
        let mut counted = Vec::new();
        for entry in self.counts.iter() {
            let (key, count) = entry.map_err(map_error("read the counts by stack"))?;
            let stack = match stacks.get(&key.hash) {
                Some(stack) => Arc::clone(stack),
                None => {
                    let stack = self.stacks.get(&key.hash, 0).map_err(map_error("read a user stack"))?;
                    let stack = Arc::new(stack);
                    stacks.insert(key.hash, Arc::clone(&stack));
                    stack
                }
            };
            counted.push(CountedStack { key, count, stack });
        }
        Ok(counted)
    }

    /// Session-wide identities of the processes that stacks are counted of.
    pub fn processes(&self) -> Result<HashSet<u64>, ProbeError> {
        let keys = self.counts.keys().map(|key| key.map(|key| key.id));
        keys.collect::<Result<_, _>>().map_err(map_error("read the processes of the counts by stack"))
    }

    /// The stack that the thread with this slot took last.
    pub fn taken(&self, index: u32) -> Result<TakenStack, ProbeError> {
        self.taken.get(index).map_err(map_error("read a thread's user stack"))
    }
}
