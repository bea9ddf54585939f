//! Loading, attaching and detaching the programs of a backend.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    time::Instant,
};

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, KProbe, Program, ProgramError, TracePoint},
};

use super::hooks::{Hook, Point};

/// What the kernel answered to a hook.
pub(super) struct Tried {
    /// The hook.
    pub(super) hook: Hook,
    /// The program that was loaded, or the last refusal.
    pub(super) outcome: Result<&'static str, ProgramError>,
}

/// Loads the programs of these hooks, on all CPUs: for each, the kernel searches its types from the first to the last.
pub(super) fn load(object: &mut Ebpf, btf: &Btf, hooks: &[Hook]) -> Vec<Tried> {
    let begin = Instant::now();
    let mut wanted: Vec<(Hook, Vec<(&'static str, &mut Program)>)> =
        hooks.iter().map(|&hook| (hook, Vec::new())).collect();
    for (name, program) in object.programs_mut() {
        let place = wanted.iter_mut().find_map(|(hook, programs)| {
            Some((hook.programs.iter().copied().find(|wanted| *wanted == name)?, programs))
        });
        if let Some((name, programs)) = place {
            programs.push((name, program));
        }
    }
    // In the order of the hook's own list.
    for (hook, programs) in &mut wanted {
        programs.sort_by_key(|(name, _)| hook.programs.iter().position(|wanted| wanted == name));
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
    let share = wanted.len().div_ceil(workers.max(1)).max(1);
    let tried = std::thread::scope(|scope| {
        let load_all = |wanted: &mut [(Hook, Vec<(&'static str, &mut Program)>)]| -> Vec<Tried> {
            wanted.iter_mut().map(|(hook, programs)| load_one(*hook, programs, btf)).collect()
        };
        let workers: Vec<_> =
            wanted.chunks_mut(share).map(|chunk| scope.spawn(move || load_all(chunk))).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    tracing::debug!("{} programs verified in {:.1?}", hooks.len(), begin.elapsed());
    tried
}

fn load_one(hook: Hook, programs: &mut [(&'static str, &mut Program)], btf: &Btf) -> Tried {
    let mut outcome = Err(ProgramError::NotLoaded);
    for (name, program) in programs {
        outcome = load_program(program, hook.point, btf).map(|()| *name);
        if outcome.is_ok() {
            break;
        }
    }
    Tried { hook, outcome }
}

fn load_program(program: &mut Program, point: Point, btf: &Btf) -> Result<(), ProgramError> {
    match point {
        Point::BtfTracepoint(name) => <&mut BtfTracePoint>::try_from(program)?.load(name, btf),
        Point::Fentry(name) => <&mut FEntry>::try_from(program)?.load(name, btf),
        Point::Kprobe(_) => <&mut KProbe>::try_from(program)?.load(),
        Point::Tracepoint(..) => <&mut TracePoint>::try_from(program)?.load(),
    }
}

/// Attaches one loaded program.
pub(super) fn attach(object: &mut Ebpf, name: &str, point: Point) -> Result<(), ProgramError> {
    let program = object.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    match point {
        Point::BtfTracepoint(_) => <&mut BtfTracePoint>::try_from(program)?.attach().map(|_| ()),
        Point::Fentry(_) => <&mut FEntry>::try_from(program)?.attach().map(|_| ()),
        Point::Kprobe(function) => <&mut KProbe>::try_from(program)?.attach(function, 0).map(|_| ()),
        Point::Tracepoint(category, name) => {
            <&mut TracePoint>::try_from(program)?.attach(category, name).map(|_| ())
        }
    }
}

/// How many runs of one program the kernel has skipped, because a program was already running on that CPU.
pub(super) fn missed(object: &Ebpf, name: &str) -> u64 {
    let program = object.program(name).and_then(|program| program.fd().ok());
    program.map_or(0, |fd| recursion_misses(fd.as_fd().as_raw_fd()))
}

/// Detaches one program and frees it. Returns how many of its runs the kernel skipped, because a program was already
/// running on that CPU.
pub(super) fn unload(object: &mut Ebpf, name: &str) -> u64 {
    let Some(program) = object.program_mut(name) else { return 0 };
    let missed = program.fd().map_or(0, |fd| recursion_misses(fd.as_fd().as_raw_fd()));
    let outcome = match program {
        Program::BtfTracePoint(program) => program.unload(),
        Program::FEntry(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        Program::TracePoint(program) => program.unload(),
        Program::PerfEvent(program) => program.unload(),
        _ => Ok(()),
    };
    if let Err(error) = outcome {
        tracing::warn!("cannot detach {name}: {error}");
    }
    missed
}

/// From fdinfo, as the program info that aya shows leaves it out.
fn recursion_misses(fd: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}
