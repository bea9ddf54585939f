//! Steps beyond the sources: huge, merged and pinned pages, and a child that exits.

use core::{
    ffi::{c_int, c_void},
    mem::size_of,
    ptr,
};

use crate::{
    checkpoint::Checkpoints,
    faults,
    sys::{self, Args, Forked, Memory},
};

/// What pages hold before and after they are written by the step.
const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"hugetlb-pages" => hugetlb(args),
        b"ksm-pages" => ksm(args),
        b"pinned-pages" => pinned(args),
        b"exit-unshares" => exit_unshares(args),
        _ => None,
    }
}

/// The arguments of a step, which are numbers, all of them.
fn numbers<const N: usize>(checkpoints: &Checkpoints, args: &Args) -> Option<[usize; N]> {
    if checkpoints.given(args) != N {
        return None;
    }
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = args.number(2 + index)?;
    }
    Some(numbers)
}

/// hugetlb pages are shared with a child, which writes one byte to each; then the parent does. Each reports the faults
/// that it took.
fn hugetlb(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let [pages, huge_page_size] = numbers(&checkpoints, args)?;
    checkpoints.stop();
    let scratch = Memory::touched(1);
    let memory = Memory::hugetlb(pages, huge_page_size);
    memory.write(FIRST);
    checkpoints.buffer(memory.start().cast(), memory.bytes());
    checkpoints.stop();
    let write = |checkpoints: &mut Checkpoints| {
        checkpoints.stop();
        checkpoints.sample([memory.write_counting_faults(SECOND, &scratch), 0, 0, 0]);
        checkpoints.stop();
    };
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            write(&mut checkpoints);
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            write(&mut checkpoints);
            Some(sys::wait(child))
        }
    }
}

/// Pages of the same content are merged by the kernel, and then written.
fn ksm(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let [pages] = numbers(&checkpoints, args)?;
    checkpoints.stop();
    let scratch = Memory::touched(1);
    let memory = Memory::guarded(pages);
    memory.write(FIRST);
    // Content that no other process has, to be merged with nobody else.
    let own = u64::from(sys::getpid()) ^ sys::now_ns();
    for index in 0..pages {
        // SAFETY: a page is aligned and has room for a number.
        unsafe { memory.page(index).cast::<u64>().write_volatile(own) };
    }
    checkpoints.buffer(memory.start().cast(), memory.bytes());
    checkpoints.stop();
    if !faults::merge(&memory) {
        return Some(1);
    }
    checkpoints.stop();
    checkpoints.sample([memory.write_counting_faults(SECOND, &scratch), 0, 0, 0]);
    checkpoints.stop();
    Some(0)
}

/// Half of the pages are pinned when the process forks, the other half are not. The parent writes to the ones, then to
/// the others; the child to the former. Each reports the faults that it took; before, how the pages were pinned.
fn pinned(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let [pages] = numbers(&checkpoints, args)?;
    checkpoints.stop();
    let scratch = Memory::touched(1);
    let memory = Memory::guarded(2 * pages);
    memory.write(FIRST);
    let (pinned, others) = (memory.part(0, pages), memory.part(pages, 2 * pages));
    checkpoints.buffer(memory.start().cast(), memory.bytes());
    let how = pin(&pinned);
    checkpoints.sample([how, 0, 0, 0]);
    checkpoints.stop();
    if how == NOT_PINNED {
        return Some(0);
    }
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            checkpoints.stop();
            let as_at_fork = pinned.count(FIRST);
            checkpoints.sample([pinned.write_counting_faults(SECOND, &scratch), as_at_fork, 0, 0]);
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            checkpoints.stop();
            for memory in [pinned, others] {
                checkpoints.sample([memory.write_counting_faults(SECOND, &scratch), 0, 0, 0]);
                checkpoints.stop();
            }
            Some(sys::wait(child))
        }
    }
}

const NOT_PINNED: u64 = 0;
const BY_IO_URING: u64 = 1;
const BY_XDP: u64 = 2;

/// Pins memory until the process ends, for as long as it may take (`FOLL_LONGTERM`); how.
fn pin(memory: &Memory) -> u64 {
    if pin_by_io_uring(memory) {
        BY_IO_URING
    } else if pin_by_xdp(memory) {
        BY_XDP
    } else {
        NOT_PINNED
    }
}

/// As a buffer that is registered for input and output.
fn pin_by_io_uring(memory: &Memory) -> bool {
    const REGISTER_BUFFERS: c_int = 0;
    // `struct io_uring_params`, and nothing that it can ask for.
    let mut parameters = [0u64; 15];
    let buffer = libc::iovec { iov_base: memory.start(), iov_len: memory.bytes() };
    // SAFETY: the structures are ours, and as long as the kernel takes them to be.
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr());
        ring >= 0
            && libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_BUFFERS, &raw const buffer, 1) == 0
    }
}

/// As memory for a network card's packets.
fn pin_by_xdp(memory: &Memory) -> bool {
    /// Packets of this size fit into any page.
    const CHUNK: u32 = 2048;
    let area = libc::xdp_umem_reg_v1 {
        addr: memory.start() as u64,
        len: memory.bytes() as u64,
        chunk_size: CHUNK,
        headroom: 0,
    };
    let length = size_of::<libc::xdp_umem_reg_v1>() as libc::socklen_t;
    // SAFETY: a structure of ours and its size.
    unsafe {
        let socket = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        let area: *const c_void = ptr::from_ref(&area).cast();
        socket >= 0 && libc::setsockopt(socket, libc::SOL_XDP, libc::XDP_UMEM_REG, area, length) == 0
    }
}

/// The parent writes some of the pages that it shares, the child exits, the parent writes the rest, and reports the
/// faults that each took.
fn exit_unshares(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    let [pages, first] = numbers(&checkpoints, args)?;
    if first >= pages {
        return None;
    }
    // For pages that are to be reused.
    sys::stay_on_one_cpu();
    checkpoints.stop();
    let scratch = Memory::touched(1);
    let memory = Memory::guarded(pages);
    memory.write(FIRST);
    sys::empty_lru_batch();
    checkpoints.buffer(memory.start().cast(), memory.bytes());
    checkpoints.stop();
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            checkpoints.stop();
            let (some, rest) = (memory.part(0, first), memory.part(first, pages));
            checkpoints.sample([some.write_counting_faults(SECOND, &scratch), 0, 0, 0]);
            checkpoints.stop();
            // The child is gone by now.
            checkpoints.sample([rest.write_counting_faults(SECOND, &scratch), 0, 0, 0]);
            checkpoints.stop();
            Some(sys::wait(child))
        }
    }
}
