//! The few system calls that the workloads are made of, without allocation and without stdio.

use core::{
    ffi::{CStr, c_char, c_int, c_void},
    fmt,
};

pub use crate::memory::Memory;

/// The command line, where the kernel put it.
pub struct Args {
    count: usize,
    values: *const *const c_char,
}

impl Args {
    /// # Safety
    /// The arguments of C's `main`: `argv` has `argc` pointers to strings that live as long as the process.
    pub unsafe fn new(argc: c_int, argv: *const *const c_char) -> Args {
        Args { count: usize::try_from(argc).unwrap_or(0), values: argv }
    }

    /// Number of arguments, the program's name included.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The argument as a C string.
    pub fn text(&self, index: usize) -> Option<&CStr> {
        // SAFETY: in range, and so a string of the process's own command line.
        (index < self.count).then(|| unsafe { CStr::from_ptr(*self.values.add(index)) })
    }

    /// The argument's bytes.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.text(index).map(CStr::to_bytes)
    }

    /// The last argument.
    pub fn last(&self) -> Option<&[u8]> {
        self.get(self.count.checked_sub(1)?)
    }

    /// The argument as a positive number.
    pub fn number(&self, index: usize) -> Option<usize> {
        let value = core::str::from_utf8(self.get(index)?).ok()?.parse().ok()?;
        (value > 0).then_some(value)
    }

    /// The argument as a positive number, or this if there is none.
    pub fn number_or(&self, index: usize, default: usize) -> Option<usize> {
        if index < self.count { self.number(index) } else { Some(default) }
    }
}

/// Reads a byte of each page of the program's code and its libraries', so that all of it is mapped.
pub fn read_code() {
    extern "C" fn read(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
        // SAFETY: of the dynamic linker; its program headers describe what is mapped.
        unsafe {
            let object = &*object;
            let headers = core::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum));
            for header in headers {
                if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_X == 0 {
                    continue;
                }
                let start = (object.dlpi_addr + header.p_vaddr) as usize;
                let end = start + header.p_memsz as usize;
                for address in (start & !(page_size() - 1)..end).step_by(page_size()) {
                    core::hint::black_box((address as *const u8).read_volatile());
                }
            }
        }
        0
    }
    // SAFETY: the callback keeps nothing.
    unsafe { libc::dl_iterate_phdr(Some(read), core::ptr::null_mut()) };
}

/// Which side of a fork this is.
pub enum Forked {
    /// The new process.
    Child,
    /// The forking one, with the child's process id.
    Parent(c_int),
}

/// fork(2), or the end.
pub fn fork() -> Forked {
    // SAFETY: single-threaded here; the child only calls async-signal-safe functions and libc's allocator.
    match unsafe { libc::fork() } {
        -1 => fail("fork"),
        0 => Forked::Child,
        child => Forked::Parent(child),
    }
}

/// Waits for a child; its exit status, or 1 if it died otherwise.
pub fn wait(child: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: `status` is ours.
    while unsafe { libc::waitpid(child, &mut status, 0) } == -1 {
        if errno() != libc::EINTR {
            fail("waitpid");
        }
    }
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1 }
}

/// The calling process.
pub fn getpid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::getpid() }.cast_unsigned()
}

/// Ends the process without the exit handlers, which would touch pages.
pub fn exit_now(status: c_int) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// The kernel kills this process when its parent dies.
pub fn die_with_parent() {
    // SAFETY: a flag of the process; no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Binds this process, and its children, to the CPU it runs on; where that is refused, it goes on as it is.
pub fn stay_on_one_cpu() {
    // SAFETY: an all-zero set is valid and ours; the CPU number is checked against its size.
    unsafe {
        let cpu = usize::try_from(libc::sched_getcpu()).unwrap_or(0);
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        if cpu < 8 * size_of::<libc::cpu_set_t>() {
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
        }
    }
}

/// Makes sure that pages touched on this CPU can be reused instead of copied once nobody else maps them: the kernel
/// keeps the latest ones back on their way to the LRU lists, with one reference more each. Others take their places.
pub fn empty_lru_batch() {
    const SEVERAL_BATCHES: usize = 64;
    let others = Memory::touched(SEVERAL_BATCHES);
    // SAFETY: a whole mapping of ours, which nobody uses any more.
    unsafe { libc::munmap(others.start(), others.bytes()) };
}

/// No huge pages for this process and its children, however large their memory; a kernel without them needs no asking.
pub fn no_huge_pages_at_all() {
    // SAFETY: a flag of the process; no pointers.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// A process that is to die by a signal leaves no core file behind.
pub fn no_core() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is ours.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
}

/// write(2); whether all went out.
pub fn write(fd: c_int, bytes: &[u8]) -> bool {
    // SAFETY: the slice is readable for its length.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written) == Ok(bytes.len())
}

/// read(2) as it answers, repeated when a signal interrupted it.
pub fn read(fd: c_int, into: &mut [u8]) -> isize {
    loop {
        // SAFETY: the slice is writable for its length.
        let got = unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) };
        if got != -1 || errno() != libc::EINTR {
            return got;
        }
    }
}

/// open(2), or the end.
pub fn open(path: &CStr, flags: c_int) -> c_int {
    // SAFETY: a C string.
    match unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) } {
        -1 => fail("open"),
        fd => fd,
    }
}

/// Size of an open file, bytes.
pub fn file_size(fd: c_int) -> usize {
    // SAFETY: an all-zero stat is valid, and filled by the kernel.
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        if libc::fstat(fd, &mut stat) == -1 {
            fail("fstat");
        }
        usize::try_from(stat.st_size).unwrap_or(0)
    }
}

/// malloc(3), or the end.
pub fn malloc(bytes: usize) -> *mut u8 {
    // SAFETY: any size is allowed.
    let buffer = unsafe { libc::malloc(bytes) };
    if buffer.is_null() {
        fail("malloc");
    }
    buffer.cast()
}

/// Page faults of this process so far that needed no I/O.
pub fn minor_faults() -> u64 {
    // SAFETY: an all-zero rusage is valid, and filled by the kernel.
    unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage.ru_minflt.cast_unsigned()
    }
}

/// CLOCK_MONOTONIC, ns.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Sleeps.
pub fn sleep_ms(ms: i64) {
    let time = libc::timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
    // SAFETY: `time` is ours; the rest is not asked for.
    unsafe { libc::nanosleep(&time, core::ptr::null_mut()) };
}

/// Sleeps until CLOCK_MONOTONIC is here; not at all if it was.
pub fn sleep_until(ns: u64) {
    let seconds = libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(libc::time_t::MAX);
    let time = libc::timespec { tv_sec: seconds, tv_nsec: (ns % 1_000_000_000).cast_signed() };
    // SAFETY: `time` is ours; the rest is not asked for.
    while unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &time, core::ptr::null_mut())
    } == libc::EINTR
    {}
}

/// Says what failed and the kernel's answer, and ends the process.
pub fn fail(what: &str) -> ! {
    let error = errno();
    let mut line = Line::new();
    // A full line is cut, which is no reason to say nothing.
    let _ = fmt::Write::write_fmt(&mut line, format_args!("cowtrace-workload: {what}: "));
    write(2, line.bytes());
    // SAFETY: strerror answers with a C string for any number.
    write(2, unsafe { CStr::from_ptr(libc::strerror(error)) }.to_bytes());
    write(2, b"\n");
    exit_now(1)
}

fn errno() -> c_int {
    // SAFETY: points to the thread's errno.
    unsafe { *libc::__errno_location() }
}

/// A line of text on the stack.
pub struct Line {
    bytes: [u8; 160],
    length: usize,
}

impl Line {
    /// An empty line.
    pub fn new() -> Line {
        Line { bytes: [0; 160], length: 0 }
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let rest = &mut self.bytes[self.length..];
        if text.len() > rest.len() {
            return Err(fmt::Error);
        }
        rest[..text.len()].copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

/// Keeps huge pages out of all pages on which these bytes lie, which then are a mapping of their own.
pub fn no_huge_pages(start: *mut u8, bytes: usize) {
    let before = start.addr() % page_size();
    let length = (before + bytes).next_multiple_of(page_size());
    // SAFETY: advice that changes no content; callers own the pages. A kernel without huge pages refuses it, and
    // needs none.
    unsafe { libc::madvise(start.byte_sub(before).cast(), length, libc::MADV_NOHUGEPAGE) };
}

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
