//! Writes after a fork: to one page, to none, to one byte of each, to half of them.

use core::{ffi::c_int, hint::black_box};

use super::portions::{FILLED, Step, WRITTEN, portion};
use crate::sys::{self, Args, Memory};

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"parent-writes-page" => parent_writes_page(args),
        b"read-only-child" => read_only_child(args),
        b"byte-per-page" => byte_per_page(args),
        b"half-heap" => half_heap(args),
        _ => None,
    }
}

/// The parent writes to the first byte of one page, twice; then the child to that of its own. The child says
/// before what its page holds, the parent after its first write: the first byte, and whether the others are
/// as before the fork.
fn parent_writes_page(args: &Args) -> Option<c_int> {
    // A page that waits in a CPU's batch for the LRU lists has one reference more, and would be copied where
    // it could be reused. Further pages push it out of this CPU's.
    sys::stay_on_one_cpu();
    let step = Step::<0>::new(args)?;
    Memory::touched(BATCH_PAGES);
    let middle = step.memory.pages() / 2;
    let page = step.memory.part(middle, middle + 1);
    let content = |role| [role, u64::from(page.first_byte()), u64::from(page.rest_holds_only(FILLED)), 0];
    // All code of the parent's step is in memory then, so that its only fault is the one on the page.
    page.write(FILLED);
    black_box(content(0));
    step.fork(
        |parent| {
            page.write(WRITTEN);
            parent.checkpoints.sample(content(0));
            parent.checkpoints.stop();
            page.write(WRITTEN);
            parent.checkpoints.stop();
        },
        |child| {
            child.checkpoints.sample(content(1));
            page.write(WRITTEN);
            child.checkpoints.stop();
        },
    )
}

/// More than a CPU's batch holds: 15, later 31.
const BATCH_PAGES: usize = 64;

/// The child reads each byte, and says whether all are as before the fork.
fn read_only_child(args: &Args) -> Option<c_int> {
    Step::<0>::new(args)?.fork(
        |_| {},
        |child| {
            let same = child.memory.holds_only(FILLED);
            child.checkpoints.sample([u64::from(same), 0, 0, 0]);
            child.checkpoints.stop();
        },
    )
}

/// The child writes one byte of each page, and says how long that took: ns, for each portion. Then the parent
/// does the same.
fn byte_per_page(args: &Args) -> Option<c_int> {
    // The parent's pages are to be reused; see above. The child's copies push them out of the batch.
    sys::stay_on_one_cpu();
    Step::<1>::new(args)?.fork(
        |parent| {
            parent.memory.write(WRITTEN);
            parent.checkpoints.stop();
        },
        |child| {
            let [portions] = child.numbers;
            for index in 0..portions {
                let pages = portion(child.memory.pages(), index, portions);
                let start = sys::now_ns();
                child.memory.part(pages.start, pages.end).write(WRITTEN);
                child.checkpoints.sample([sys::now_ns() - start, 0, 0, 0]);
                child.checkpoints.stop();
            }
        },
    )
}

/// The child writes one byte of each page of the first half.
fn half_heap(args: &Args) -> Option<c_int> {
    Step::<0>::new(args)?.fork(
        |_| {},
        |child| {
            child.memory.part(0, child.memory.pages() / 2).write(WRITTEN);
            child.checkpoints.stop();
        },
    )
}
