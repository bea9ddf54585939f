//! Faults one by one: whose they are, where, and which function wrote.

use std::{collections::HashMap, sync::Arc};

use cowtrace_abi::{Fault, Kind, mode};

use super::{Collector, ProcessState};
use crate::{
    model::{TracedFault, Writer},
    symbols::Symbols,
};

/// Functions by address that are kept, before all are looked up anew.
const MAX_KEPT: usize = 65_536;

/// What faults are resolved by, and those that are.
#[derive(Default)]
pub(super) struct Events {
    /// Whether mappings are followed: without them there is neither a region nor a function.
    mapped: bool,
    symbols: Symbols,
    /// By process, program and address.
    functions: HashMap<(u64, u32, u64), Arc<str>>,
    ready: Vec<TracedFault>,
}

impl Collector {
    /// Keeps each fault that is told; `mapped`: with its region, and the function that wrote.
    pub(in crate::collect) fn keep_events(&mut self, mapped: bool) {
        self.events = Some(Events { mapped, ..Events::default() });
        self.code_kept = mapped;
    }

    /// Faults that were told since the last call. Those of one round are in the order of time.
    pub(in crate::collect) fn take_events(&mut self) -> Vec<TracedFault> {
        self.events.as_mut().map(|events| std::mem::take(&mut events.ready)).unwrap_or_default()
    }

    pub(super) fn resolve(&mut self, mut faults: Vec<Fault>) {
        let Some(mut events) = self.events.take() else { return };
        // What only the end of a fault tells comes late.
        faults.sort_by_key(|fault| fault.at_ns);
        events.ready.reserve(faults.len());
        for fault in &faults {
            match self.traced(fault, &mut events) {
                Some(traced) => events.ready.push(traced),
                None => self.damaged += 1,
            }
        }
        self.events = Some(events);
    }

    fn traced(&mut self, fault: &Fault, events: &mut Events) -> Option<TracedFault> {
        let mut traced = TracedFault {
            at_ns: fault.at_ns.saturating_sub(self.start_ns),
            pid: fault.tid,
            tid: fault.tid,
            comm: Arc::default(),
            kind: Kind::from_u8(fault.kind)?,
            address: fault.address,
            pages: fault.pages,
            region: None,
            ip: (fault.ip != 0).then_some(fault.ip),
            function: None,
            took_ns: (fault.took_ns != 0).then_some(fault.took_ns),
            writer: match fault.mode {
                mode::USER => Some(Writer::User),
                mode::KERNEL => Some(Writer::Kernel),
                _ => None,
            },
        };
        // Its fork's record may have been lost.
        let Some(index) = self.processes.place(fault.id) else { return Some(traced) };
        let process = &mut self.processes[index];
        traced.pid = process.slot.tgid;
        traced.comm = process.code.comm(fault.execs);
        if events.mapped {
            let vma = (fault.vma_end != 0).then_some((fault.vma_start, fault.vma_end));
            traced.region = process.space.region_of_fault(fault.address, fault.at_ns, vma, fault.remote != 0);
            self.unresolved += u64::from(traced.region.is_none());
            traced.function = traced.ip.map(|ip| self.function(index, fault, ip, events));
        }
        Some(traced)
    }

    fn function(&self, index: usize, fault: &Fault, ip: u64, events: &mut Events) -> Arc<str> {
        let key = (fault.id, fault.execs, ip);
        if let Some(name) = events.functions.get(&key) {
            return Arc::clone(name);
        }
        let process: &ProcessState = &self.processes[index];
        let pids = self.relatives(process, fault.execs);
        let frame = match process.code.find(fault.execs, ip, fault.at_ns) {
            Some(place) => events.symbols.in_file(&pids, &place),
            None => events.symbols.made_at_run_time(&pids, ip),
        };
        if events.functions.len() >= MAX_KEPT {
            events.functions.clear();
            // What was read of the files and processes of a session that lasts.
            events.symbols = Symbols::default();
        }
        events.functions.insert(key, Arc::clone(&frame.name));
        frame.name
    }
}
