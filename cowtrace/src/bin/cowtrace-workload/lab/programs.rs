//! Starting programs: fork and exec, vfork and exec, posix_spawn.

use core::{
    ffi::{CStr, c_char, c_int, c_void},
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    checkpoint::Checkpoints,
    sys::{self, Args, Forked, Memory},
};

/// What the buffer's pages hold before a launch, what a child of vfork writes to the first few, and what the
/// parent writes to all after it.
const BEFORE: u8 = 1;
const BY_CHILD: u8 = 2;
const BY_PARENT: u8 = 3;

/// Pages of the buffer that a child of vfork writes to.
const GUEST_PAGES: usize = 16;

/// Bytes of the stack that it writes to.
const GUEST_STACK: usize = 64 << 10;

/// More bytes of the stack than the parent uses while it starts a child.
const PARENT_FRAMES: usize = 32 << 10;

/// More pages than a CPU's batch for the LRU lists holds.
const BATCH_PAGES: usize = 64;

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"fork-exec" => launch_once(args, Way::Fork),
        b"vfork" => launch_once(args, Way::Vfork),
        b"posix-spawn" => launch_once(args, Way::Spawn),
        b"launch-times" => launch_times(args),
        b"busy-launches" => busy_launches(args),
        _ => None,
    }
}

/// How a program is started; the numbers are for the lab.
#[derive(Clone, Copy)]
enum Way {
    Fork,
    Vfork,
    Spawn,
}

/// Besides a buffer of PAGES a program is started, which ends at once. The parent reports its process id and
/// how many pages the child has written to, then writes to the whole buffer.
fn launch_once(args: &Args, way: Way) -> Option<c_int> {
    // Another CPU's batch for the LRU lists could hold one reference more to a page, which would then be
    // copied where it could be reused; this one's is emptied.
    sys::stay_on_one_cpu();
    let (mut checkpoints, memory) = start(args, 1)?;
    Memory::touched(BATCH_PAGES);
    checkpoints.stop();
    let child = launch(way, &memory.part(0, GUEST_PAGES));
    checkpoints.sample([u64::from(child.cast_unsigned()), memory.count(BY_CHILD), 0, 0]);
    checkpoints.stop();
    memory.write(BY_PARENT);
    checkpoints.stop();
    Some(0)
}

/// Besides a buffer of PAGES, programs are started ROUNDS times in each way. Reports way and ns from the call
/// until the program has ended.
fn launch_times(args: &Args) -> Option<c_int> {
    let rounds = args.number(3)?;
    let (mut checkpoints, memory) = start(args, 2)?;
    for _ in 0..rounds {
        for way in [Way::Fork, Way::Vfork, Way::Spawn] {
            let begin = sys::now_ns();
            launch(way, &memory.part(0, 1));
            checkpoints.sample([way as u64, sys::now_ns() - begin, 0, 0]);
        }
    }
    checkpoints.stop();
    Some(0)
}

/// Forks and execs ROUNDS times, while another thread writes to a buffer of PAGES all the time.
fn busy_launches(args: &Args) -> Option<c_int> {
    let rounds = args.number(3)?;
    let (mut checkpoints, memory) = start(args, 2)?;
    let writer = Writer { memory, stop: AtomicBool::new(false) };
    let argument: *const Writer = &writer;
    // SAFETY: a handle is a number; the thread is joined before `writer` goes.
    unsafe {
        let mut handle: libc::pthread_t = core::mem::zeroed();
        let data = argument.cast_mut().cast();
        if libc::pthread_create(&mut handle, core::ptr::null(), write_until_told, data) != 0 {
            sys::fail("pthread_create");
        }
        for _ in 0..rounds {
            launch(Way::Fork, &memory);
        }
        writer.stop.store(true, Ordering::Relaxed);
        libc::pthread_join(handle, core::ptr::null_mut());
    }
    checkpoints.stop();
    Some(0)
}

struct Writer {
    memory: Memory,
    stop: AtomicBool,
}

extern "C" fn write_until_told(writer: *mut c_void) -> *mut c_void {
    // SAFETY: the pointer that `busy_launches` passed.
    let writer = unsafe { &*writer.cast::<Writer>() };
    while !writer.stop.load(Ordering::Relaxed) {
        writer.memory.write(BY_PARENT);
    }
    core::ptr::null_mut()
}

/// The first checkpoint, and a buffer of PAGES, each written.
fn start(args: &Args, given: usize) -> Option<(Checkpoints, Memory)> {
    let pages = args.number(2)?;
    let mut checkpoints = Checkpoints::new(args);
    if checkpoints.given(args) != given || pages < GUEST_PAGES {
        return None;
    }
    checkpoints.stop();
    let memory = Memory::guarded(pages);
    memory.write(BEFORE);
    checkpoints.buffer(memory.start().cast(), memory.bytes());
    Some((checkpoints, memory))
}

/// This program, which ends at once.
const PROGRAM: &CStr = c"/proc/self/exe";
const LAST_LINK: [&CStr; 3] = [c"cowtrace-workload", c"exec-chain", c"1"];

/// Starts the program and waits for its end; its process id. A child of vfork writes to `guest` before.
fn launch(way: Way, guest: &Memory) -> c_int {
    let [name, step, last] = LAST_LINK.map(CStr::as_ptr);
    let argv = [name, step, last, core::ptr::null()];
    let child = match way {
        Way::Fork => match sys::fork() {
            Forked::Child => exec(&argv),
            Forked::Parent(child) => child,
        },
        Way::Vfork => vfork(&Guest { memory: guest, argv: &argv }),
        Way::Spawn => spawn(&argv),
    };
    if sys::wait(child) != 0 {
        sys::write(2, b"cowtrace-workload: the program that was started failed\n");
        sys::exit_now(1);
    }
    child
}

fn exec(argv: &[*const c_char; 4]) -> ! {
    // SAFETY: a C string, and a list of such that ends with NULL.
    unsafe { libc::execv(PROGRAM.as_ptr(), argv.as_ptr()) };
    // What a shell says. Not `fail`, which a child of vfork had better leave to its parent.
    sys::exit_now(127)
}

/// A child of vfork, in its parent's memory.
struct Guest<'a> {
    memory: &'a Memory,
    argv: &'a [*const c_char; 4],
}

/// What vfork(3) asks of the kernel. Only the child's stack begins a little further down, where no frame of
/// the parent is: vfork itself would return twice from one frame, which no Rust function may.
fn vfork(guest: &Guest) -> c_int {
    let here: *const &Guest = &guest;
    let stack = here.wrapping_byte_sub(PARENT_FRAMES).cast_mut().cast();
    let guest: *const Guest = guest;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the parent stands still until the child is another program or gone, so that `guest` lives, and
    // what is that far below its frames on the stack is the child's.
    match unsafe { libc::clone(as_guest, stack, flags, guest.cast_mut().cast()) } {
        -1 => sys::fail("clone(CLONE_VM | CLONE_VFORK)"),
        child => child,
    }
}

extern "C" fn as_guest(guest: *mut c_void) -> c_int {
    // SAFETY: the pointer that `vfork` passed.
    let guest = unsafe { &*guest.cast::<Guest>() };
    guest.memory.write(BY_CHILD);
    black_box(&mut [0u8; GUEST_STACK]);
    exec(guest.argv)
}

fn spawn(argv: &[*const c_char; 4]) -> c_int {
    let environment: [*const c_char; 1] = [core::ptr::null()];
    let mut child = 0;
    let (argv, environment) = (argv.as_ptr().cast(), environment.as_ptr().cast());
    // SAFETY: a C string, and lists of such that end with NULL; no file actions, no attributes.
    let error = unsafe {
        libc::posix_spawn(
            &mut child,
            PROGRAM.as_ptr(),
            core::ptr::null(),
            core::ptr::null(),
            argv,
            environment,
        )
    };
    if error != 0 {
        sys::write(2, b"cowtrace-workload: posix_spawn failed\n");
        sys::exit_now(1);
    }
    child
}
