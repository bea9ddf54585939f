//! The eBPF object: loaded, attached, read.

use std::time::Instant;

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData, Queue, RingBuf},
    programs::RawTracePoint,
};
use aya_log::EbpfLogger;
use cowtrace_abi::{Adoption, Calibration, Config, CowTimes, Fault, Kind, STACK_COUNTS_MAX, STACKS_MAX};

use super::{
    Backend, BackendChoice, ProbeError, Slots, adopt, backend, calibration,
    hooks::{self, Gives, Hook},
    latency::{self, Latency},
    programs::{self, Tried},
    running::Kernel,
    slots::{map_error, take},
    stack_maps::StackMaps,
};
use crate::{
    kernel::{KernelLayout, StackSymbols, pid_max},
    model::KnownKinds,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cowtrace-probes"));

/// Slots for threads, and for processes, unless the user asks for more: memory that is cleared at every start.
pub const DEFAULT_MAX_TASKS: u32 = 16_384;

/// Bytes of the ring buffer. Both halves of its double mapping count as resident memory of this process.
const RING_BYTES: u32 = 4 << 20;
/// The same where each fault has a record: a second of 170,000 faults.
const EVENTS_RING_BYTES: u32 = 16 << 20;

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct ProbeOptions {
    /// Keep addresses, to attribute faults to mappings.
    pub regions: bool,
    /// Count copies by the user stack that made them.
    pub stacks: bool,
    /// Tell each page that is copied or replaced apart; with `regions` only.
    pub pages: bool,
    /// Tell of each fault of these kinds: bit n stands for the [`Kind`] n.
    pub events: u64,
    /// Measure how long copies take.
    pub latency: bool,
    /// Which hooks.
    pub backend: BackendChoice,
    /// Threads, and processes, that can be traced at the same time; more are counted as lost.
    pub max_tasks: u32,
    /// Level of kernel-side diagnostics: 0 none, 2 warnings, 4 debug (aya-log's numbers).
    pub log_level: u8,
}

/// The attached programs and their maps. Dropping it detaches everything; nothing is pinned, so that the kernel frees it
/// all even when this process is killed.
pub struct Probes {
    object: Ebpf,
    attached: Vec<&'static str>,
    backend: Backend,
    known: KnownKinds,
    calibration: Calibration,
    ring: RingBuf<MapData>,
    slots: Slots,
    stacks: Option<StackMaps>,
    latency: Option<Latency>,
    adopting: Option<&'static str>,
    logger: Option<EbpfLogger<&'static dyn tracing_log::log::Log>>,
    /// Runs that the kernel had skipped when they were renewed.
    missed_before: u64,
}

pub(super) fn program_error(
    action: &'static str,
    what: &str,
    error: &(dyn std::error::Error + 'static),
) -> ProbeError {
    tracing::info!("{action} {what}: {error:?}");
    ProbeError::Program { action, what: what.to_owned(), answer: ProbeError::kernels_answer(error) }
}

/// What is left to do when the kernel's types are no longer needed.
struct Attached {
    object: Ebpf,
    programs: Vec<&'static str>,
    backend: Backend,
    known: KnownKinds,
    calibration: Calibration,
    logger: Option<EbpfLogger<&'static dyn tracing_log::log::Log>>,
    stacks: bool,
    latency: bool,
}

impl Attached {
    fn complete(self) -> Result<Probes, ProbeError> {
        let Attached { mut object, programs: attached, backend, known, calibration, logger, stacks, latency } =
            self;
        let slots = Slots::of(&mut object)?;
        let ring = take(&mut object, "EVENTS")?;
        let stacks = stacks.then(|| StackMaps::of(&mut object)).transpose()?;
        let latency = latency.then(|| Latency::of(&mut object)).transpose()?;
        Ok(Probes {
            object,
            attached,
            backend,
            known,
            calibration,
            ring,
            slots,
            stacks,
            latency,
            adopting: None,
            logger,
            missed_before: 0,
        })
    }
}

impl Probes {
    /// Loads the programs for the running kernel and attaches them. They ignore all processes but those that are adopted.
    pub fn load(options: &ProbeOptions) -> Result<Probes, ProbeError> {
        let begin = Instant::now();
        let kernel = Kernel::running(options.backend)?;
        tracing::debug!("the kernel's types are read in {:.1?}", begin.elapsed());
        let attached = backend::first_that_works(options.backend, &kernel, |backend| {
            Self::load_backend(backend, &kernel, options)
        })?;
        // Before the ring is mapped: the types take some 20 MiB.
        drop(kernel);
        attached.complete()
    }

    fn load_backend(
        backend: Backend,
        kernel: &Kernel,
        options: &ProbeOptions,
    ) -> Result<Attached, ProbeError> {
        let begin = Instant::now();
        let mut hooks = hooks::hooks(backend, &kernel.layout).map_err(|reason| ProbeError::Unsupported {
            backend: backend.name(),
            reason: reason.to_string(),
        })?;
        if options.events != 0 || options.latency {
            hooks::add_fault_begin(backend, &mut hooks);
        }
        let mut config = config_of(backend, &kernel.layout, options.regions, options.stacks, options.pages);
        config.events = options.events;
        config.times = u64::from(options.latency);
        let mut object = load_object(&config, options.max_tasks, options.log_level)?;
        let logger = match options.log_level {
            0 => None,
            _ => EbpfLogger::init(&mut object).map_err(|e| tracing::warn!("no kernel-side log: {e}")).ok(),
        };
        let mut unknown = hooks::absent_kinds(backend, &kernel.layout);
        let mut programs = attach(&mut object, &kernel.btf, &hooks, &mut unknown)?;
        if options.latency {
            programs.push(latency::attach(&mut object)?);
        }
        let calibration = match backend {
            Backend::Tracepoint => {
                calibrate(&mut object, Some(&backend::enough_symbols(kernel.stack_symbols())?))?
            }
            Backend::Fentry | Backend::Kprobe => calibrate(&mut object, None)?,
        };
        let walks = kernel.layout.has_page_fields && calibration.trusted == 1;
        let known = backend.known_kinds(walks, &unknown);
        tracing::debug!("the {} backend is attached in {:.1?}", backend.name(), begin.elapsed());
        let ProbeOptions { stacks, latency, .. } = *options;
        Ok(Attached { object, programs, backend, known, calibration, logger, stacks, latency })
    }

    /// Detaches everything: from here on nothing changes in the maps. Also returns how many runs of programs the
    /// kernel skipped because the same program was already running on that CPU.
    pub fn detach(&mut self) -> u64 {
        let missed: u64 = self.attached.drain(..).map(|name| programs::unload(&mut self.object, name)).sum();
        missed - self.missed_before
    }

    /// Makes them trace nobody and have counted nothing, as right after loading, for another session with the same options and
    /// without stacks. To load them anew takes much longer.
    pub fn renew(&mut self) -> Result<(), ProbeError> {
        self.slots.forget_threads()?;
        for name in ["FREE_TASKS", "FREE_PROCS"] {
            let Some(map) = self.object.map_mut(name) else { continue };
            let mut free = Queue::<_, u32>::try_from(map).map_err(map_error("open a queue of free slots"))?;
            while free.pop(0).is_ok() {}
        }
        while self.ring.next().is_some() {}
        self.missed_before += self.missed();
        Ok(())
    }

    /// Begins or ends to trace a thread that runs already; what came of it is in the slots.
    pub fn adopt(&mut self, request: &Adoption) -> Result<(), ProbeError> {
        let name = match self.adopting {
            Some(name) => name,
            None => *self.adopting.insert(adopt::load(&mut self.object)?),
        };
        adopt::run(&mut self.object, name, request)
    }

    /// How many runs the kernel has skipped so far.
    pub fn missed(&self) -> u64 {
        let missed: u64 = self.attached.iter().map(|name| programs::missed(&self.object, name)).sum();
        missed - self.missed_before
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

    /// The counts by user stack, if they were asked for.
    pub fn stacks(&self) -> Option<&StackMaps> {
        self.stacks.as_ref()
    }

    /// Times of the copies of the processes that live, by session-wide identity; none if they were not asked for.
    pub fn live_times(&self) -> Result<Vec<(u64, CowTimes)>, ProbeError> {
        let times = |latency: &Latency| latency.times(&self.slots.live_processes_by_index()?);
        self.latency.as_ref().map_or(Ok(Vec::new()), times)
    }

    /// Faults that are told when they end, and have not.
    pub fn open_faults(&self) -> Result<Vec<Fault>, ProbeError> {
        let open = |latency: &Latency| latency.open(&self.slots.live_tasks()?);
        self.latency.as_ref().map_or(Ok(Vec::new()), open)
    }

    /// Hands kernel-side diagnostics to the user's log.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

/// The kernel's layout with the switches for a backend.
pub(super) fn config_of(
    backend: Backend,
    layout: &KernelLayout,
    regions: bool,
    stacks: bool,
    pages: bool,
) -> Config {
    Config {
        regions: u64::from(regions),
        stacks: u64::from(stacks),
        pages: u64::from(pages),
        functions: u64::from(backend != Backend::Tracepoint),
        ..layout.config
    }
}

/// Creates the maps; programs are loaded one by one, as not every kernel has every hook.
pub(super) fn load_object(config: &Config, max_tasks: u32, log_level: u8) -> Result<Ebpf, ProbeError> {
    // More than there are thread ids can never be in use. Slot 0 means none.
    let tasks = max_tasks.clamp(1, pid_max()).saturating_add(1);
    let stacks = |entries: u32| if config.stacks == 0 { 1 } else { entries };
    let times = |entries: u32| if config.times == 0 { 1 } else { entries };
    let open = if config.events == 0 { 1 } else { times(tasks) };
    let ring = if config.events == 0 { RING_BYTES } else { EVENTS_RING_BYTES };
    let mut object = EbpfLoader::new()
        // No program needs relocation; parsing the kernel's types a second time would double the start-up time.
        .btf(None)
        .override_global("CONFIG", config, true)
        .override_global("AYA_LOG_LEVEL", &log_level, false)
        .map_max_entries("INDEX", pid_max())
        .map_max_entries("TASKS", tasks)
        .map_max_entries("PROCS", tasks)
        .map_max_entries("FREE_TASKS", tasks)
        .map_max_entries("FREE_PROCS", tasks)
        .map_max_entries("EVENTS", ring)
        .map_max_entries("TAKEN_STACKS", stacks(tasks))
        .map_max_entries("TIMES", times(tasks))
        .map_max_entries("OPEN_FAULTS", open)
        .map_max_entries("STACKS", stacks(STACKS_MAX))
        .map_max_entries("STACK_COUNTS", stacks(STACK_COUNTS_MAX))
        .load(OBJECT)
        .map_err(|e| program_error("load", "the eBPF object", &e))?;
    if let Some(lock) = object.map_mut("LOCK") {
        let mut lock = Queue::<_, u32>::try_from(lock).map_err(map_error("open the map LOCK"))?;
        lock.push(1, 0).map_err(map_error("set up the lock"))?;
    }
    Ok(object)
}

/// Loads and attaches; kinds of hooks that the kernel refuses, and that the backend can do without, become unknown.
fn attach(
    object: &mut Ebpf,
    btf: &Btf,
    hooks: &[Hook],
    unknown: &mut Vec<Kind>,
) -> Result<Vec<&'static str>, ProbeError> {
    let mut attached = Vec::new();
    for tried in programs::load(object, btf, hooks) {
        let mut outcome = attach_one(object, &tried);
        if let (Err(_), Some((programs, point))) = (&outcome, tried.hook.instead) {
            let hook = Hook { programs, point, ..tried.hook };
            for tried in programs::load(object, btf, &[hook]) {
                outcome = attach_one(object, &tried);
            }
        }
        match (outcome, tried.hook.gives) {
            (Ok(name), _) => attached.push(name),
            (Err(error), Gives::Everything(_)) => return Err(error),
            (Err(error), Gives::Kinds(kinds, words)) => {
                tracing::warn!("{words} will be unknown: {error}");
                unknown.extend(kinds);
            }
        }
    }
    Ok(attached)
}

fn attach_one(object: &mut Ebpf, tried: &Tried) -> Result<&'static str, ProbeError> {
    let point = tried.hook.point;
    let name = match &tried.outcome {
        Ok(name) => *name,
        Err(error) => {
            let name = tried.hook.programs.first().copied().unwrap_or_default();
            return Err(program_error("load", &format!("{name} for {point}"), error));
        }
    };
    programs::attach(object, name, point)
        .map_err(|error| program_error("attach", &format!("{name} to {point}"), &error))?;
    Ok(name)
}

/// Reads the kernel's clock; with symbols, also finds the page tables, and hands these symbols to the programs.
fn calibrate(object: &mut Ebpf, symbols: Option<&StackSymbols>) -> Result<Calibration, ProbeError> {
    let mut known: Array<MapData, Calibration> = take(object, "CALIBRATION")?;
    let mut begin = Calibration::default();
    if let Some(symbol) = symbols.and_then(|symbols| symbols.page_fault) {
        (begin.page_fault_start, begin.page_fault_end) = (symbol.start, symbol.end);
    }
    if let Some(symbol) = symbols.and_then(|symbols| symbols.wp_page) {
        (begin.do_wp_page_start, begin.do_wp_page_end) = (symbol.start, symbol.end);
    }
    known.set(0, begin, 0).map_err(map_error("set the calibration"))?;
    let program = object.program_mut("calibrate_walk").and_then(|p| <&mut RawTracePoint>::try_from(p).ok());
    let Some(program) = program else { return Ok(Calibration::default()) };
    program.load().map_err(|e| program_error("load", "the calibration program", &e))?;
    let state = || known.get(&0, 0).unwrap_or_default();
    let result = match symbols {
        Some(_) => calibration::calibrate(program, state),
        None => calibration::read_clock(program, state),
    };
    if let Err(error) = program.unload() {
        tracing::warn!("cannot unload the calibration program: {error}");
    }
    result.map_err(|answer| ProbeError::Program {
        action: "run",
        what: "the calibration program".to_owned(),
        answer,
    })
}
