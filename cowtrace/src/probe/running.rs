//! What is known of the running kernel before anything is loaded: read once for all sessions that follow each other.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    thread::{self, JoinHandle},
};

use aya::Btf;

use super::{BackendChoice, ProbeError, backend::Trials, object::program_error};
use crate::kernel::{KernelLayout, StackSymbols, stack_symbols};

/// What was read last, as long as somebody keeps it.
static KEPT: Mutex<Weak<Kernel>> = Mutex::new(Weak::new());

/// The running kernel.
pub(super) struct Kernel {
    /// Where it keeps what the programs read.
    pub(super) layout: KernelLayout,
    /// Its types, for the programs that are attached through them.
    pub(super) btf: Btf,
    /// Whether hooks on functions work.
    pub(super) trials: Trials,
    symbols: Symbols,
}

/// Keeps what is read of the kernel, some 20 MiB, for the sessions to come.
#[must_use = "it is forgotten when this is dropped"]
pub struct KernelKept(#[expect(dead_code, reason = "only to be dropped")] Option<Arc<Kernel>>);

impl Kernel {
    /// Reads the kernel's files, or gives what is kept of them. `choice`: what they are read for.
    pub(super) fn running(choice: BackendChoice) -> Result<Arc<Kernel>, ProbeError> {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kept.upgrade() {
            return Ok(kernel);
        }
        let kernel = Arc::new(Self::read(choice, false)?);
        *kept = Arc::downgrade(&kernel);
        Ok(kernel)
    }

    /// Reads them and keeps them. What cannot be read is for the sessions to tell.
    pub fn keep(choice: BackendChoice) -> KernelKept {
        KernelKept(Self::running(choice).ok())
    }

    /// The kernel makes these files up as they are read: side by side. `whole`: its functions also where they are of no use.
    pub(super) fn read(choice: BackendChoice, whole: bool) -> Result<Kernel, ProbeError> {
        let symbols = Symbols::new(matches!(choice, BackendChoice::Auto | BackendChoice::Tracepoint));
        let (layout, btf) = thread::scope(|scope| {
            let btf = scope.spawn(Btf::from_sys_fs);
            (KernelLayout::of_running_kernel(), btf.join())
        });
        let mut layout = layout?;
        let btf = btf.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let unreadable = |e: aya::BtfError| program_error("read", "/sys/kernel/btf/vmlinux", &e);
        let btf = btf.map_err(unreadable)?;
        let trials = Trials::make(layout.main_function);
        if whole || trials.any() {
            layout.look_for_functions();
        }
        Ok(Kernel { layout, btf, trials, symbols })
    }

    /// Functions that the tracepoint backend looks for on the kernel stack.
    pub(super) fn stack_symbols(&self) -> StackSymbols {
        self.symbols.get()
    }
}

/// From a long list: others go on while it is read, if it is known to be needed.
struct Symbols {
    reading: Mutex<Option<JoinHandle<StackSymbols>>>,
    read: OnceLock<StackSymbols>,
}

impl Symbols {
    fn new(needed: bool) -> Symbols {
        Symbols { reading: Mutex::new(needed.then(|| thread::spawn(stack_symbols))), read: OnceLock::new() }
    }

    fn get(&self) -> StackSymbols {
        let reading = || self.reading.lock().unwrap_or_else(PoisonError::into_inner).take();
        *self
            .read
            .get_or_init(|| reading().map_or_else(stack_symbols, |thread| thread.join().unwrap_or_default()))
    }
}
