//! Steps about a family's shared pages: scattered writes, three generations, the segments of a program, the zero page.

use core::{
    ffi::{c_int, c_void},
    mem::MaybeUninit,
};

use crate::{
    checkpoint::Checkpoints,
    sys::{self, Args, Forked, Memory},
};

/// What pages hold before and after they are written by the step.
const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"scattered-writes" => scattered_writes(args),
        b"grandchild-writes" => grandchild_writes(args),
        b"segments" => segments(args),
        b"zero-page" => zero_page(args),
        _ => None,
    }
}

/// Pages of the heap shared by parent and child. The child reads all, then writes some here and there; the parent
/// writes as many others, and then those of the child. Each reports the faults that it took.
fn scattered_writes(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    if checkpoints.given(args) != 2 {
        return None;
    }
    let (pages, writes) = (args.number(2)?, args.number(3)?);
    // For pages that are to be reused.
    sys::stay_on_one_cpu();
    sys::no_huge_pages_at_all();
    checkpoints.stop();
    let scratch = Memory::touched(1);
    let heap = heap(pages);
    heap.write(FIRST);
    sys::empty_lru_batch();
    checkpoints.buffer(heap.start().cast(), heap.bytes());
    checkpoints.stop();
    let write = |share| {
        write_scattered(&scratch, 1, Share::First);
        let before = sys::minor_faults();
        write_scattered(&heap, writes, share);
        [sys::minor_faults() - before, 0, 0, 0]
    };
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            checkpoints.stop();
            checkpoints.sample([heap.count(FIRST), 0, 0, 0]);
            checkpoints.stop();
            checkpoints.sample(write(Share::First));
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            checkpoints.stop();
            checkpoints.sample(write(Share::Second));
            checkpoints.stop();
            checkpoints.sample(write(Share::First));
            checkpoints.stop();
            Some(sys::wait(child))
        }
    }
}

/// Whole pages in the middle of a block that malloc has made room for in `[heap]`, however large.
fn heap(pages: usize) -> Memory {
    // SAFETY: a setting of the allocator; no large block gets a mapping of its own.
    unsafe { libc::mallopt(libc::M_MMAP_MAX, 0) };
    let block = sys::malloc((pages + 1) * sys::page_size());
    // SAFETY: allocated with one page more, and never freed.
    unsafe { Memory::at(block, pages) }
}

#[derive(Clone, Copy, PartialEq)]
enum Share {
    First,
    Second,
}

/// Draws two shares of so many different pages at random, the same ones each time, and writes one of the shares.
fn write_scattered(memory: &Memory, writes: usize, share: Share) {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut left = (2 * writes).min(memory.pages());
    // Each page is drawn with the chance that makes all sets of this size equally likely (Knuth, algorithm S).
    for index in 0..memory.pages() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if random % (memory.pages() - index) as u64 >= left as u64 {
            continue;
        }
        left -= 1;
        let drawn = if left % 2 == 1 { Share::First } else { Share::Second };
        if drawn == share {
            memory.part(index, index + 1).write(SECOND);
        }
    }
}

/// Parent, child and grandchild share one buffer. The grandchild writes all of it, then the child, then the parent.
fn grandchild_writes(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    if checkpoints.given(args) != 1 {
        return None;
    }
    // For pages that are to be reused.
    sys::stay_on_one_cpu();
    checkpoints.stop();
    let memory = Memory::guarded(args.number(2)?);
    memory.write(FIRST);
    sys::empty_lru_batch();
    checkpoints.buffer(memory.start().cast(), memory.bytes());
    checkpoints.stop();
    let write = |checkpoints: &mut Checkpoints| {
        checkpoints.stop();
        memory.write(SECOND);
        checkpoints.stop();
    };
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            match sys::fork() {
                Forked::Child => {
                    checkpoints.become_child();
                    write(&mut checkpoints);
                    sys::exit_now(0)
                }
                Forked::Parent(grandchild) => {
                    write(&mut checkpoints);
                    sys::exit_now(sys::wait(grandchild))
                }
            }
        }
        Forked::Parent(child) => {
            write(&mut checkpoints);
            Some(sys::wait(child))
        }
    }
}

/// The largest page that this architecture can be set up with.
const LARGEST_PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// Long enough to have a whole page inside, wherever it begins.
type Room = [u8; 2 * LARGEST_PAGE];

static mut INITIALISED: Room = [FIRST; 2 * LARGEST_PAGE];
static mut UNINITIALISED: Room = [0; 2 * LARGEST_PAGE];

unsafe extern "C" {
    /// The C library's variable, in its .data.
    static mut stdout: *mut c_void;
}

/// So far below the present top of the stack, nothing has been called yet.
const NEVER_USED: usize = 512 << 10;

/// One page in each segment of the program, each made the process's own in its way; after the fork the child writes
/// to each. First, each page's address is reported, and that of a page of stack that was never used.
fn segments(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    if checkpoints.given(args) != 0 {
        return None;
    }
    let mut local: MaybeUninit<Room> = MaybeUninit::uninit();
    // SAFETY: each has room for a page behind any address inside of its first one, and lives until the end.
    let (data, bss, stack) = unsafe {
        (
            Memory::at((&raw mut INITIALISED).cast(), 1),
            Memory::at((&raw mut UNINITIALISED).cast(), 1),
            Memory::at(local.as_mut_ptr().cast(), 1),
        )
    };
    let block = sys::malloc(2 * sys::page_size());
    // SAFETY: allocated with one page more, and never freed.
    let heap = unsafe { Memory::at(block, 1) };
    let library = (&raw mut stdout).cast::<u8>();
    // SAFETY: the stack grows down to any address above its limit that is touched.
    let unused = unsafe { Memory::at(local.as_mut_ptr().cast::<u8>().wrapping_sub(NEVER_USED), 1) };
    for memory in [stack, data, bss, heap] {
        checkpoints.sample([memory.start() as u64, 0, 0, 0]);
    }
    checkpoints.sample([library as u64, 0, 0, 0]);
    checkpoints.sample([unused.start() as u64, 0, 0, 0]);
    let scratch = Memory::touched(1);
    let write_all = |[stack, data, bss, heap]: [Memory; 4], library: *mut u8, value| {
        [stack, data, bss, heap].iter().for_each(|memory| memory.write(value));
        // SAFETY: a byte that the caller may write, put back as it is.
        unsafe { library.write_volatile(library.read_volatile()) };
    };
    checkpoints.stop();
    data.write(FIRST);
    checkpoints.stop();
    checkpoints.sample([bss.count(0) + unused.count(0), 0, 0, 0]);
    checkpoints.stop();
    unused.write(FIRST);
    write_all([stack, data, bss, heap], library, FIRST);
    checkpoints.stop();
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            // The part of the stack that this takes is copied from then on.
            write_all([scratch; 4], scratch.page(0), FIRST);
            checkpoints.stop();
            write_all([stack, data, bss, heap], library, SECOND);
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            checkpoints.stop();
            Some(sys::wait(child))
        }
    }
}

/// One piece of memory is read, then written; another one is written at once. The faults of each are reported.
fn zero_page(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    if checkpoints.given(args) != 1 {
        return None;
    }
    let pages = args.number(2)?;
    let scratch = Memory::touched(1);
    checkpoints.stop();
    let read_first = Memory::guarded(pages);
    checkpoints.buffer(read_first.start().cast(), read_first.bytes());
    // Its code and the stack for it are in memory from then on.
    scratch.count(0);
    let before = sys::minor_faults();
    let zeros = read_first.count(0);
    checkpoints.sample([sys::minor_faults() - before, zeros, 0, 0]);
    checkpoints.stop();
    checkpoints.sample([read_first.write_counting_faults(SECOND, &scratch), 0, 0, 0]);
    checkpoints.stop();
    let write_first = Memory::guarded(pages);
    checkpoints.buffer(write_first.start().cast(), write_first.bytes());
    checkpoints.sample([write_first.write_counting_faults(SECOND, &scratch), 0, 0, 0]);
    checkpoints.stop();
    Some(0)
}
