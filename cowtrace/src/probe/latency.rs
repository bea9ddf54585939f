//! How long copies take: the hook on the end of faults, and its maps.

use std::io;

use aya::{
    Ebpf,
    programs::{
        PerfEvent, ProgramError,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    util::online_cpus,
};
use cowtrace_abi::{CowTimes, Fault, ProcSlot, TaskSlot};

use super::{ProbeError, object::program_error, shared_array::SharedArray, slots::map_error};

const PROGRAM: &str = "fault_end";

/// The maps.
pub(super) struct Latency {
    times: SharedArray<CowTimes>,
    open: SharedArray<Fault>,
}

impl Latency {
    /// Takes them out of the object.
    pub(super) fn of(object: &mut Ebpf) -> Result<Latency, ProbeError> {
        Ok(Latency {
            times: SharedArray::of(object, "TIMES")?,
            open: SharedArray::of(object, "OPEN_FAULTS")?,
        })
    }

    /// Times of these processes, which have these indices, by their session-wide identity.
    pub(super) fn times(&self, live: &[(u32, ProcSlot)]) -> Result<Vec<(u64, CowTimes)>, ProbeError> {
        let times = |(index, slot): &(u32, ProcSlot)| Ok((slot.id, self.times.get(*index)?));
        live.iter().map(times).collect::<io::Result<_>>().map_err(map_error("read the times of copies"))
    }

    /// Faults of these threads, which have these indices, whose end was not seen.
    pub(super) fn open(&self, live: &[(u32, TaskSlot)]) -> Result<Vec<Fault>, ProbeError> {
        let open = live.iter().filter(|(_, task)| task.open != 0);
        let faults: io::Result<Vec<Fault>> = open.map(|(index, _)| self.open.get(*index)).collect();
        faults.map_err(map_error("read a fault whose end was not seen"))
    }
}

/// Puts the program on the ends of faults, on each CPU.
pub(super) fn attach(object: &mut Ebpf) -> Result<&'static str, ProbeError> {
    let cpus = online_cpus().map_err(|(what, answer)| ProbeError::Program {
        action: "read",
        what: what.to_owned(),
        answer: answer.to_string(),
    })?;
    let program = object.program_mut(PROGRAM).ok_or(ProgramError::NotLoaded);
    let program = program.and_then(<&mut PerfEvent>::try_from);
    let program = program.map_err(|error| program_error("find", PROGRAM, &error))?;
    program.load().map_err(|error| program_error("load", PROGRAM, &error))?;
    for cpu in cpus {
        for event in [SoftwareEvent::PageFaultsMin, SoftwareEvent::PageFaultsMaj] {
            let scope = PerfEventScope::AllProcessesOneCpu { cpu };
            program
                .attach(PerfEventConfig::Software(event), scope, SamplePolicy::Period(1), false)
                .map_err(|error| program_error("attach", "fault_end to perf's page-fault events", &error))?;
        }
    }
    Ok(PROGRAM)
}
