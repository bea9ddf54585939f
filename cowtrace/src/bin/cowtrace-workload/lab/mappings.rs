//! Mappings that fork treats in their own way: shared ones, files, those with advice, huge pages.

use core::ffi::c_int;

use crate::{
    checkpoint::Checkpoints,
    sys::{self, Args, Forked, Memory},
};

/// What the pages hold before a fork, and what parent and child write since.
const BEFORE: u8 = 1;
const BY_CHILD: u8 = 2;
const BY_PARENT: u8 = 3;

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"shared-memory" => shared_memory(args),
        b"private-file" => private_file(args),
        b"dontfork" => dontfork(args),
        b"wipeonfork" => wipeonfork(args),
        b"thp-byte" => thp_byte(args),
        b"shared-clean" => shared_clean(args),
        _ => None,
    }
}

/// The first checkpoint of a step that has so many arguments.
fn start(args: &Args, given: usize) -> Option<Checkpoints> {
    let mut checkpoints = Checkpoints::new(args);
    if checkpoints.given(args) != given {
        return None;
    }
    checkpoints.stop();
    Some(checkpoints)
}

/// The next checkpoint, with this as the step's buffer.
fn stop_with(checkpoints: &mut Checkpoints, buffer: &Memory) {
    checkpoints.buffer(buffer.start().cast(), buffer.bytes());
    checkpoints.stop();
}

/// Forks: a checkpoint of both. Each then goes its own way.
fn fork(
    mut checkpoints: Checkpoints,
    in_parent: impl FnOnce(&mut Checkpoints),
    in_child: impl FnOnce(&mut Checkpoints),
) -> Option<c_int> {
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            checkpoints.stop();
            in_child(&mut checkpoints);
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            checkpoints.stop();
            in_parent(&mut checkpoints);
            Some(sys::wait(child))
        }
    }
}

/// Shared memory, a shared file and private memory, PAGES of each: the child writes to all, and reports the
/// minor faults that the shared memory took. The parent reports in how many pages of each it sees that,
/// writes to the shared memory, and the child reports in how many pages it sees that.
fn shared_memory(args: &Args) -> Option<c_int> {
    let (path, pages) = (args.text(2)?, args.number(3)?);
    let mut checkpoints = start(args, 2)?;
    let shared = Memory::map(pages, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
    let file = Memory::map(pages, libc::MAP_SHARED, sys::open(path, libc::O_RDWR));
    let private = Memory::guarded(pages);
    let all = [shared, file, private];
    all.iter().for_each(|memory| memory.write(BEFORE));
    checkpoints.sample([private.start() as u64, file.start() as u64, 0, 0]);
    stop_with(&mut checkpoints, &shared);
    fork(
        checkpoints,
        |parent| {
            let [shared_seen, file_seen, private_seen] = all.map(|memory| memory.count(BY_CHILD));
            parent.sample([shared_seen, file_seen, private_seen, 0]);
            shared.write(BY_PARENT);
            parent.stop();
        },
        |child| {
            let faults = sys::minor_faults();
            shared.write(BY_CHILD);
            let faults = sys::minor_faults() - faults;
            // Mapped by a read, so that the write meets a page that is there and write-protected.
            file.count(BEFORE);
            file.write(BY_CHILD);
            private.write(BY_CHILD);
            child.sample([faults, 0, 0, 0]);
            child.stop();
            child.sample([shared.count(BY_PARENT), 0, 0, 0]);
            child.stop();
        },
    )
}

/// A private file of PAGES, all of whose bytes are alike, mapped twice: read, then written; and written at
/// once. Then the child writes to the second mapping. The parent reports in how many pages of each the bytes
/// that it did not write are the file's, and in how many pages of the second one it finds what it wrote, once
/// the child has written.
fn private_file(args: &Args) -> Option<c_int> {
    let (path, pages) = (args.text(2)?, args.number(3)?);
    let mut checkpoints = start(args, 2)?;
    let file = sys::open(path, libc::O_RDONLY);
    // With large blocks where the file system has them: a write to one unmaps it, and finds no page.
    let read_first = Memory::unadvised(pages, libc::MAP_PRIVATE, file);
    // Whatever the file holds: it is the reading that matters.
    core::hint::black_box(read_first.count(BEFORE));
    stop_with(&mut checkpoints, &read_first);
    let content = second_byte(&read_first, 0);
    read_first.write(BEFORE);
    stop_with(&mut checkpoints, &read_first);
    let written_first = Memory::unadvised(pages, libc::MAP_PRIVATE, file);
    written_first.write(BEFORE);
    let the_files =
        |memory: &Memory| (0..pages).filter(|&page| second_byte(memory, page) == content).count() as u64;
    checkpoints.sample([the_files(&read_first), the_files(&written_first), 0, 0]);
    stop_with(&mut checkpoints, &written_first);
    fork(
        checkpoints,
        |parent| {
            parent.sample([written_first.count(BEFORE), 0, 0, 0]);
            parent.stop();
        },
        |child| {
            written_first.write(BY_CHILD);
            child.stop();
        },
    )
}

/// Of one page, a byte that [`Memory::write`] leaves alone.
fn second_byte(memory: &Memory, page: usize) -> u8 {
    // SAFETY: inside the mapping, as no page is shorter than two bytes.
    unsafe { memory.page(page).add(1).read_volatile() }
}

/// PAGES that the child is not to have, and ORDINARY ones beside them: the parent writes to both after the
/// fork.
fn dontfork(args: &Args) -> Option<c_int> {
    let (pages, ordinary) = (args.number(2)?, args.number(3)?);
    let mut checkpoints = start(args, 2)?;
    let excluded = Memory::guarded(pages);
    let ordinary = Memory::guarded(ordinary);
    excluded.write(BEFORE);
    ordinary.write(BEFORE);
    excluded.advise(libc::MADV_DONTFORK, "madvise(MADV_DONTFORK)");
    checkpoints.sample([ordinary.start() as u64, ordinary.bytes() as u64, 0, 0]);
    stop_with(&mut checkpoints, &excluded);
    fork(
        checkpoints,
        |parent| {
            excluded.write(BY_PARENT);
            ordinary.write(BY_PARENT);
            parent.stop();
        },
        |_| {},
    )
}

/// PAGES that the child is to find empty. It reads the first half, and reports how many are zero; then it
/// writes to all. The parent reports how many are as they were, and writes to all.
fn wipeonfork(args: &Args) -> Option<c_int> {
    let pages = args.number(2)?;
    let mut checkpoints = start(args, 1)?;
    let memory = Memory::guarded(pages);
    memory.write(BEFORE);
    memory.advise(libc::MADV_WIPEONFORK, "madvise(MADV_WIPEONFORK)");
    stop_with(&mut checkpoints, &memory);
    fork(
        checkpoints,
        |parent| {
            parent.sample([memory.count(BEFORE), 0, 0, 0]);
            memory.write(BY_PARENT);
            parent.stop();
        },
        |child| {
            child.sample([memory.part(0, pages / 2).count(0), 0, 0, 0]);
            child.stop();
            memory.write(BY_CHILD);
            child.stop();
        },
    )
}

/// One huge page of BYTES: after the fork the child writes one byte, then one to each page; the parent writes
/// one byte in between, to another page.
fn thp_byte(args: &Args) -> Option<c_int> {
    let bytes = args.number(2)?;
    let mut checkpoints = start(args, 1)?;
    let pages = bytes / sys::page_size();
    // Twice as much, to have a whole aligned one; what is around it has other advice, and so is not merged
    // with it.
    let mapping = Memory::map(2 * pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    let skip = mapping.start().align_offset(bytes) / sys::page_size();
    let huge = mapping.part(skip, skip + pages);
    // SAFETY: advice on memory of ours. A kernel without huge pages refuses it; the lab sees that there is
    // none.
    unsafe { libc::madvise(huge.start(), huge.bytes(), libc::MADV_HUGEPAGE) };
    huge.write(BEFORE);
    stop_with(&mut checkpoints, &huge);
    fork(
        checkpoints,
        |parent| {
            huge.part(pages - 1, pages).write(BY_PARENT);
            parent.stop();
        },
        |child| {
            huge.part(0, 1).write(BY_CHILD);
            child.stop();
            huge.write(BY_CHILD);
            child.stop();
        },
    )
}

/// PAGES of private memory, written, and as many of a file, read. The child reads the file, then writes to
/// the memory.
fn shared_clean(args: &Args) -> Option<c_int> {
    let (path, pages) = (args.text(2)?, args.number(3)?);
    let mut checkpoints = start(args, 2)?;
    let memory = Memory::guarded(pages);
    memory.write(BEFORE);
    let file = Memory::map(pages, libc::MAP_PRIVATE, sys::open(path, libc::O_RDONLY));
    core::hint::black_box(file.count(BEFORE));
    // A fault maps the pages around it as well, but for those that another process has locked at that moment: the parent
    // might lack some that the child has.
    sys::read_code();
    stop_with(&mut checkpoints, &memory);
    fork(
        checkpoints,
        |_| {},
        |child| {
            core::hint::black_box(file.count(BEFORE));
            child.stop();
            memory.write(BY_CHILD);
            child.stop();
        },
    )
}
