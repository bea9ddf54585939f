//! Which program the arguments name.

use core::ffi::c_int;

use crate::{copies, faults, files, lab, life, sys::Args};

/// What is said to wrong arguments.
pub const USAGE: &str = "\
usage: cowtrace-workload PROGRAM [ARGUMENT...]
  the steps of the lab; 'lab' as last argument stops at checkpoints (descriptors 3 and up)
    no-heap | heap-untouched | heap-touched | fork-shared | child-writes   [BYTES] [lab]
    shared-memory | private-file | shared-clean   FILE PAGES [lab]
    dontfork PAGES ORDINARY [lab]  PAGES with the advice, ORDINARY ones without
    wipeonfork PAGES [lab]
    thp-byte BYTES [lab]           BYTES: of a huge page
    fork-exec | vfork | posix-spawn   PAGES [lab]
    launch-times | busy-launches   PAGES ROUNDS [lab]
    scattered-writes PAGES WRITES | grandchild-writes PAGES | segments | zero-page PAGES   [lab]
    hugetlb-pages PAGES HUGE_PAGE_BYTES | ksm-pages PAGES | pinned-pages PAGES   [lab]
    exit-unshares PAGES WRITTEN_BEFORE   [lab]
    parent-writes-page | read-only-child | half-heap   PAGES [lab]
    byte-per-page | snapshot   PAGES PORTIONS [lab]
    worst-case PAGES PORTIONS WRITES   WRITES at random in each portion [lab]
  copies
    cow-bench PAGES                the child times its copies: {\"pages\":N,\"ns\":T}
    cow-write PAGES [CHILDREN]     each child, one after the other, copies PAGES
    reuse PAGES                    written again after the child is gone: no copy
    map-shared PAGES               shared memory: no copy
    kernel-write PAGES             read(2) writes the child's pages
    threads N PAGES                N threads of the child copy PAGES in all
  other faults
    zero PAGES                     read, then written
    denied | denied-handled N      forbidden writes: fatal, or allowed by the handler
    ksm PAGES                      merged pages written (needs /sys/kernel/mm/ksm/run = 1)
    thp-anon                       first touch of a huge page
    file-read-write FILE PAGES | file-write-first FILE PAGES | shared-file FILE PAGES
  processes
    exec-chain N | fork-tree DEPTH | sleep-forever | signal-self N
";

/// Runs what the arguments name; `None` if they name nothing.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"cow-bench" => copies::bench(args.number(2)?),
        b"cow-write" => copies::write(args.number(2)?, args.number_or(3, 1)?),
        b"reuse" => copies::reuse(args.number(2)?),
        b"map-shared" => copies::map_shared(args.number(2)?),
        b"kernel-write" => copies::kernel_write(args.number(2)?),
        b"threads" => copies::threads(args.number(2)?, args.number(3)?),
        b"zero" => faults::zero(args.number(2)?),
        b"denied" => faults::denied(),
        b"denied-handled" => faults::denied_handled(args.number(2)?),
        b"ksm" => faults::ksm(args.number(2)?),
        b"thp-anon" => faults::thp_anon(),
        b"file-read-write" => files::read_write(args.text(2)?, args.number(3)?),
        b"file-write-first" => files::write_first(args.text(2)?, args.number(3)?),
        b"shared-file" => files::shared(args.text(2)?, args.number(3)?),
        b"exec-chain" => life::exec_chain(args.number(2)?),
        b"fork-tree" => life::fork_tree(args.number(2)?),
        b"sleep-forever" => life::sleep_forever(),
        b"signal-self" => life::signal_self(args.number(2)?),
        _ => lab::run(args),
    }
}
