//! Beginning to trace threads that already run (`cowtrace-ebpf/src/adopt.rs`).

use aya::{
    Ebpf, TestRun as _,
    programs::{ProgramError, RawTracePoint, RawTracePointRunOptions},
};
use cowtrace_abi::Adoption;

use super::{ProbeError, object::program_error};

/// The program, and its like for kernels without atomic fetch operations.
const PROGRAMS: [&str; 2] = ["adopt_thread", "adopt_thread_locked"];

/// Loads the one that the kernel takes.
pub(super) fn load(object: &mut Ebpf) -> Result<&'static str, ProbeError> {
    let mut refusal = ProgramError::NotLoaded;
    for name in PROGRAMS {
        match program(object, name).and_then(RawTracePoint::load) {
            Ok(()) => return Ok(name),
            Err(error) => refusal = error,
        }
    }
    Err(program_error("load", PROGRAMS[0], &refusal))
}

/// Runs it once. What came of it is in the slots.
pub(super) fn run(object: &mut Ebpf, name: &'static str, request: &Adoption) -> Result<(), ProbeError> {
    let mut options = RawTracePointRunOptions::new();
    let Adoption { what, tid, tgid, ppid, proc_index, comm } = *request;
    let args = [what, tid, tgid, ppid, proc_index, comm[0], comm[1]];
    options.args[..args.len()].copy_from_slice(&args);
    let program = program(object, name).map_err(|error| program_error("find", name, &error))?;
    program.test_run(options).map_err(|error| program_error("run", name, &error))?;
    Ok(())
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut RawTracePoint, ProgramError> {
    object.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}
