//! The eBPF object: loaded, attached, read.

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, RingBuf},
    programs::{BtfTracePoint, RawTracePoint},
};
use aya_log::EbpfLogger;
use cowtrace_abi::{Calibration, ProcSlot, Shared, TaskSlot};

use super::{Backend, BackendChoice, ProbeError, calibration, choose};
use crate::{
    kernel::{KernelLayout, StackSymbols, pid_max, stack_symbols},
    model::KnownKinds,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cowtrace-probes"));

/// Program and the tracepoint that it is attached to. The hooks of a process's life come first, so that no fault is
/// seen of a process that is not known.
const LIFE: [(&str, &str); 3] =
    [("task_exit", "sched_process_exit"), ("task_exec", "sched_process_exec"), ("task_new", "task_newtask")];
const FAULTS: [(&str, &str); 5] = [
    ("signal_sent", "signal_generate"),
    ("rss_stat", "rss_stat"),
    ("page_alloc", "mm_page_alloc"),
    ("fault_kernel", "page_fault_kernel"),
    ("fault_user", "page_fault_user"),
];

/// Slots for threads, and for processes, unless the user asks for more: memory that is cleared at every start.
pub const DEFAULT_MAX_TASKS: u32 = 16_384;

/// Bytes of the ring buffer. Both halves of its double mapping count as resident memory of this process.
const RING_BYTES: u32 = 4 << 20;

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct ProbeOptions {
    /// Keep addresses, to attribute faults to mappings.
    pub regions: bool,
    /// Which hooks.
    pub backend: BackendChoice,
    /// Threads, and processes, that can be traced at the same time; more are counted as lost.
    pub max_tasks: u32,
    /// Level of kernel-side diagnostics: 0 none, 2 warnings, 4 debug (aya-log's numbers).
    pub log_level: u8,
}

/// The loaded programs and their maps. Dropping it detaches everything; nothing is pinned, so that the kernel frees it
/// all even when this process is killed.
pub struct Probes {
    object: Ebpf,
    backend: Backend,
    known: KnownKinds,
    calibration: Calibration,
    ring: RingBuf<MapData>,
    slots: Slots,
    logger: Option<EbpfLogger<&'static dyn tracing_log::log::Log>>,
}

/// The arrays that programs and user space share.
pub struct Slots {
    index: Array<MapData, u32>,
    tasks: Array<MapData, TaskSlot>,
    procs: Array<MapData, ProcSlot>,
    shared: Array<MapData, Shared>,
}

fn map_error(action: &str) -> impl FnOnce(aya::maps::MapError) -> ProbeError {
    let action = action.to_owned();
    move |error| ProbeError::Map { action, answer: ProbeError::kernels_answer(&error) }
}

fn program_error(action: &'static str, what: &str, error: &(dyn std::error::Error + 'static)) -> ProbeError {
    tracing::info!("{action} {what}: {error:?}");
    ProbeError::Program { action, what: what.to_owned(), answer: ProbeError::kernels_answer(error) }
}

fn take<T: TryFrom<Map, Error = aya::maps::MapError>>(
    object: &mut Ebpf,
    name: &str,
) -> Result<T, ProbeError> {
    let map = object.take_map(name).ok_or_else(|| ProbeError::Map {
        action: format!("find the map {name}"),
        answer: "it is not in the object".to_owned(),
    })?;
    T::try_from(map).map_err(map_error(&format!("open the map {name}")))
}

impl Probes {
    /// Loads the object for the running kernel; nothing is attached yet.
    pub fn load(options: &ProbeOptions) -> Result<Probes, ProbeError> {
        let begin = std::time::Instant::now();
        let step = |what: &str| tracing::debug!("{what} after {:.1?}", begin.elapsed());
        // What system calls copy is told by functions on their stack; the list is long, so that others go on meanwhile.
        let symbols = std::thread::spawn(stack_symbols);
        // Both read megabytes that the kernel makes up as they are read: side by side.
        let (layout, btf) = std::thread::scope(|scope| {
            let btf = scope.spawn(Btf::from_sys_fs);
            (KernelLayout::of_running_kernel(), btf.join())
        });
        let layout = layout?;
        let btf = match btf {
            Ok(btf) => btf.map_err(|e| program_error("read", "/sys/kernel/btf/vmlinux", &e))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        step("kernel types read");
        let mut config = layout.config;
        config.regions = u64::from(options.regions);
        // More than there are thread ids can never be in use.
        // Slot 0 means none.
        let tasks = options.max_tasks.clamp(1, pid_max()).saturating_add(1);
        let mut object = EbpfLoader::new()
            // No program needs relocation; parsing the kernel's types a second time would double the start-up time.
            .btf(None)
            .override_global("CONFIG", &config, true)
            .override_global("AYA_LOG_LEVEL", &options.log_level, false)
            .map_max_entries("INDEX", pid_max())
            .map_max_entries("TASKS", tasks)
            .map_max_entries("PROCS", tasks)
            .map_max_entries("FREE_TASKS", tasks)
            .map_max_entries("FREE_PROCS", tasks)
            .map_max_entries("EVENTS", RING_BYTES)
            .load(OBJECT)
            .map_err(|e| program_error("load", "the eBPF object", &e))?;
        step("object loaded");
        let logger = match options.log_level {
            0 => None,
            _ => EbpfLogger::init(&mut object).map_err(|e| tracing::warn!("no kernel-side log: {e}")).ok(),
        };
        let backend = choose(options.backend, &mut object, &btf)?;
        load_tracepoints(&mut object, &btf)?;
        drop(btf);
        step("programs verified");
        let symbols = symbols.join().unwrap_or_default();
        if symbols.page_fault.is_none() || symbols.wp_page.is_none() {
            tracing::warn!(
                "/proc/kallsyms does not tell where faults are handled: copies by system calls are missed"
            );
        }
        let calibration = calibrate(&mut object, &symbols)?;
        let walks = layout.has_page_fields && calibration.trusted == 1;
        step("page tables found");
        let slots = Slots {
            index: take(&mut object, "INDEX")?,
            tasks: take(&mut object, "TASKS")?,
            procs: take(&mut object, "PROCS")?,
            shared: take(&mut object, "SHARED")?,
        };
        let ring = take(&mut object, "EVENTS")?;
        Ok(Probes { object, backend, known: backend.known_kinds(walks), calibration, ring, slots, logger })
    }

    /// Attaches everything, the hooks of process life first.
    pub fn attach(&mut self) -> Result<(), ProbeError> {
        for (name, tracepoint) in LIFE.iter().chain(&FAULTS) {
            let program = tracepoint_mut(&mut self.object, name)?;
            program.attach().map_err(|e| {
                program_error("attach", &format!("{name} to the tracepoint {tracepoint}"), &e)
            })?;
        }
        Ok(())
    }

    /// Detaches everything: from here on nothing changes in the maps. Also returns how many runs of programs the
    /// kernel skipped because the same program was already running on that CPU.
    pub fn detach(&mut self) -> u64 {
        let mut missed = 0;
        for (name, _) in LIFE.iter().chain(&FAULTS) {
            if let Ok(program) = tracepoint_mut(&mut self.object, name) {
                missed += recursion_misses(program);
                if let Err(error) = program.unload() {
                    tracing::warn!("cannot detach {name}: {error}");
                }
            }
        }
        missed
    }

    /// The backend in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The kinds that it can tell apart here.
    pub fn known_kinds(&self) -> KnownKinds {
        self.known
    }

    /// Where the kernel's page tables and clock stand.
    pub fn calibration(&self) -> Calibration {
        self.calibration
    }

    /// The records of the kernel programs.
    pub fn ring(&mut self) -> &mut RingBuf<MapData> {
        &mut self.ring
    }

    /// The shared arrays.
    pub fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// Hands kernel-side diagnostics to the user's log.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

fn tracepoint_mut<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, ProbeError> {
    let missing = || ProbeError::Program {
        action: "find",
        what: format!("the program {name}"),
        answer: "it is not in the object".to_owned(),
    };
    object.program_mut(name).ok_or_else(missing)?.try_into().map_err(|_| missing())
}

/// Loads all tracepoint programs, on all CPUs: for each, the kernel searches its types from the first to the last.
fn load_tracepoints(object: &mut Ebpf, btf: &Btf) -> Result<(), ProbeError> {
    let wanted = |name: &str| LIFE.iter().chain(&FAULTS).find(|(known, _)| *known == name);
    let mut programs: Vec<_> = object
        .programs_mut()
        .filter_map(|(name, program)| {
            let &(name, tracepoint) = wanted(name)?;
            Some((name, tracepoint, <&mut BtfTracePoint>::try_from(program).ok()?))
        })
        .collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(programs.len());
    let share = programs.len().div_ceil(workers.max(1)).max(1);
    std::thread::scope(|scope| {
        let load = |programs: &mut [(&str, &str, &mut BtfTracePoint)]| {
            programs.iter_mut().try_for_each(|(name, tracepoint, program)| {
                let what = || format!("{name} for the tracepoint {tracepoint}");
                program.load(tracepoint, btf).map_err(|e| program_error("load", &what(), &e))
            })
        };
        let workers: Vec<_> =
            programs.chunks_mut(share).map(|chunk| scope.spawn(move || load(chunk))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn calibrate(object: &mut Ebpf, symbols: &StackSymbols) -> Result<Calibration, ProbeError> {
    let mut known: Array<MapData, Calibration> = take(object, "CALIBRATION")?;
    let mut begin = Calibration::default();
    if let Some(symbol) = symbols.page_fault {
        (begin.page_fault_start, begin.page_fault_end) = (symbol.start, symbol.end);
    }
    if let Some(symbol) = symbols.wp_page {
        (begin.do_wp_page_start, begin.do_wp_page_end) = (symbol.start, symbol.end);
    }
    known.set(0, begin, 0).map_err(map_error("set the calibration"))?;
    let program = object.program_mut("calibrate_walk").and_then(|p| <&mut RawTracePoint>::try_from(p).ok());
    let Some(program) = program else { return Ok(Calibration::default()) };
    if let Err(error) = program.load() {
        tracing::warn!("cannot load the calibration program ({error}): some kinds will be unknown");
        return Ok(Calibration::default());
    }
    let result = calibration::calibrate(program, || known.get(&0, 0).unwrap_or_default());
    if let Err(error) = program.unload() {
        tracing::warn!("cannot unload the calibration program: {error}");
    }
    Ok(result)
}

/// From fdinfo, as the program info that aya shows leaves it out.
fn recursion_misses(program: &BtfTracePoint) -> u64 {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let Ok(fd) = program.fd() else { return 0 };
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}

/// Slot numbers of the process that the session starts with.
const FIRST_TASK: u32 = 1;
const FIRST_PROC: u32 = 1;

impl Slots {
    /// Begins to trace a process with one thread, as the session's first.
    pub fn adopt(&mut self, process: &ProcSlot) -> Result<(), ProbeError> {
        let shared = Shared { next_task: 1, next_proc: 1, next_id: process.id, live: 1, ..Shared::default() };
        let task = TaskSlot { proc_index: FIRST_PROC, tid: process.tgid, ..TaskSlot::default() };
        self.shared.set(0, shared, 0).map_err(map_error("set the shared state"))?;
        self.procs.set(FIRST_PROC, process, 0).map_err(map_error("set the process's slot"))?;
        self.tasks.set(FIRST_TASK, task, 0).map_err(map_error("set the thread's slot"))?;
        self.index.set(process.tgid, FIRST_TASK, 0).map_err(map_error("register the thread"))
    }

    /// Session-wide state.
    pub fn shared(&self) -> Result<Shared, ProbeError> {
        self.shared.get(&0, 0).map_err(map_error("read the shared state"))
    }

    /// Slots of all processes whose end was not reported, with what they counted so far.
    pub fn live_processes(&self) -> Result<Vec<ProcSlot>, ProbeError> {
        let used = self.shared()?.next_proc.min(u64::from(self.procs.len()) - 1);
        let slots = (1..=used as u32).filter_map(|index| self.procs.get(&index, 0).ok());
        Ok(slots.filter(|slot| slot.id != 0).collect())
    }

    /// Slots of all traced threads, with their index.
    pub fn live_tasks(&self) -> Result<Vec<(u32, TaskSlot)>, ProbeError> {
        let used = self.shared()?.next_task.min(u64::from(self.tasks.len()));
        let slots = (1..=used as u32).filter_map(|index| Some((index, self.tasks.get(&index, 0).ok()?)));
        Ok(slots.filter(|(index, slot)| self.index.get(&slot.tid, 0).is_ok_and(|i| i == *index)).collect())
    }

    /// The process slot at an index.
    pub fn process(&self, index: u32) -> Result<ProcSlot, ProbeError> {
        self.procs.get(&index, 0).map_err(map_error("read a process's slot"))
    }

    /// Overwrites a thread's slot; only while that thread cannot fault.
    pub fn set_task(&mut self, index: u32, slot: &TaskSlot) -> Result<(), ProbeError> {
        self.tasks.set(index, slot, 0).map_err(map_error("set a thread's slot"))
    }
}
