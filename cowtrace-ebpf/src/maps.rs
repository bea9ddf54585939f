//! The maps, and the two steps from the current thread to its slot.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap, Queue, RingBuf},
};
use cowtrace_abi::{
    Calibration, Config, CowTimes, Fault, ProcSlot, Shared, StackCount, StackKey, TakenStack, TaskSlot,
    UserStack,
};

use crate::read;

/// Set by user space before the object is loaded.
#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> = Global::new(Config::ZERO);

/// User space reads arrays in its own memory: while bpf(2) looks an element up, the kernel runs no kprobe program on that CPU,
/// and a reader that is preempted in it makes it skip those of whoever runs instead.
const SHARED_ARRAY: u32 = BPF_F_MMAPABLE;

/// Thread id -> index into [`TASKS`], 0: not traced. User space gives it `kernel.pid_max` entries, so every thread
/// has its own and nothing collides.
#[map]
pub static INDEX: Array<u32> = Array::with_max_entries(32768, SHARED_ARRAY);

/// Traced threads. Sized by user space.
#[map]
pub static TASKS: Array<TaskSlot> = Array::with_max_entries(1024, SHARED_ARRAY);

/// Traced processes. Sized by user space.
#[map]
pub static PROCS: Array<ProcSlot> = Array::with_max_entries(1024, SHARED_ARRAY);

/// Indices into [`TASKS`] that were given back.
#[map]
pub static FREE_TASKS: Queue<u32> = Queue::with_max_entries(1024, 0);

/// Indices into [`PROCS`] that were given back.
#[map]
pub static FREE_PROCS: Queue<u32> = Queue::with_max_entries(1024, 0);

/// One element, which whoever holds it has taken out; see [`crate::atomic::Locking`]. User space puts it in.
#[map]
pub static LOCK: Queue<u32> = Queue::with_max_entries(1, 0);

/// One entry: [`Shared`].
#[map]
pub static SHARED: Array<Shared> = Array::with_max_entries(1, SHARED_ARRAY);

/// One entry: [`Calibration`].
#[map]
pub static CALIBRATION: Array<Calibration> = Array::with_max_entries(1, 0);

/// The last user stack of each traced thread, with the index that it has in [`TASKS`]. User space gives it entries only
/// if stacks are asked for; so also the two below.
#[map]
pub static TAKEN_STACKS: Array<TakenStack> = Array::with_max_entries(1, SHARED_ARRAY);

/// Hash -> the user stack.
#[map]
pub static STACKS: HashMap<u64, UserStack> = HashMap::with_max_entries(1, 0);

/// Copies by process, user stack and kind.
#[map]
pub static STACK_COUNTS: HashMap<StackKey, StackCount> = HashMap::with_max_entries(1, 0);

/// How long the copies of each traced process took, with the index that it has in [`PROCS`]. User space gives it entries only
/// if times are asked for.
#[map]
pub static TIMES: Array<CowTimes> = Array::with_max_entries(1, SHARED_ARRAY);

/// Faults whose end is not seen yet, with the index that the thread has in [`TASKS`]. User space gives it entries only if both
/// events and times are asked for.
#[map]
pub static OPEN_FAULTS: Array<Fault> = Array::with_max_entries(1, SHARED_ARRAY);

/// Records for user space. Sized by user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Reads one field of [`CONFIG`] as a constant that the verifier knows.
#[macro_export]
macro_rules! config {
    ($field:ident) => {
        $crate::maps::config_at(core::mem::offset_of!(cowtrace_abi::Config, $field))
    };
}

/// Reads the configuration word at a byte offset; see [`config!`].
#[inline(always)]
pub fn config_at(offset: usize) -> u64 {
    // SAFETY: CONFIG holds only u64, is initialised and frozen; the volatile read keeps the compiler from using the
    // value of build time.
    unsafe { core::ptr::read_volatile((&raw const CONFIG).cast::<u64>().byte_add(offset)) }
}

/// Id of the current thread in the initial PID namespace.
#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// Index of a thread's slot, if the thread is traced.
#[inline(always)]
pub fn task_index(tid: u32) -> Option<u32> {
    let index = *INDEX.get(tid)?;
    (index != 0).then_some(index)
}

/// Slot of the current thread, if it is traced.
#[inline(always)]
pub fn current_task() -> Option<*mut TaskSlot> {
    // On the path of every fault: a load instead of a helper call.
    // SAFETY: BTF pointer, offset of the running kernel.
    let tid = unsafe { read::field(read::current(), config!(task_pid)) };
    TASKS.get_ptr_mut(task_index(tid)?)
}

/// Session-wide state.
#[inline(always)]
pub fn shared() -> Option<*mut Shared> {
    SHARED.get_ptr_mut(0)
}
