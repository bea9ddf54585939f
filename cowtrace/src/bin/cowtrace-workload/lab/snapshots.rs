//! A child that keeps the memory as it was at the fork, while its parent writes on.

use core::{ffi::c_int, ops::Range};

use super::portions::{FILLED, Step, WRITTEN, portion};
use crate::sys::{self, Args};

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"snapshot" => snapshot(args),
        b"worst-case" => worst_case(args),
        _ => None,
    }
}

/// The child reads the whole buffer, as one that saves it would. The parent writes meanwhile, to every tenth
/// page. Both take the time that is given, spread over the portions, at a steady pace, and say how long each
/// portion took them: role, ns, pages; the child also how many of its pages are as before the fork.
fn snapshot(args: &Args) -> Option<c_int> {
    Step::<2>::new(args)?.fork(
        |parent| {
            let [portions, ms] = parent.numbers;
            let written = parent.memory.pages() / TENTH;
            let memory = parent.memory;
            let mut pace = Pace::new(written, ms);
            for index in 0..portions {
                let part = portion(written, index, portions);
                let ns = pace.take(part.clone(), |turn| {
                    memory.part(turn * TENTH, turn * TENTH + 1).write(WRITTEN);
                });
                parent.checkpoints.sample([0, ns, part.len() as u64, 0]);
                parent.checkpoints.stop();
            }
        },
        |child| {
            let [portions, ms] = child.numbers;
            let memory = child.memory;
            let mut pace = Pace::new(memory.pages(), ms);
            for index in 0..portions {
                let part = portion(memory.pages(), index, portions);
                let mut same = 0;
                let ns = pace.take(part.clone(), |page| {
                    same += u64::from(memory.part(page, page + 1).holds_only(FILLED));
                });
                child.checkpoints.sample([1, ns, part.len() as u64, same]);
                child.checkpoints.stop();
            }
        },
    )
}

/// The parent writes to one page of this many.
const TENTH: usize = 10;

/// Does things evenly over a span of time, which stands still at checkpoints.
struct Pace {
    turns: usize,
    total_ns: u64,
    used_ns: u64,
}

/// Between two looks at the clock.
const TICK_NS: u64 = 5_000_000;

impl Pace {
    fn new(turns: usize, ms: usize) -> Pace {
        Pace { turns, total_ns: ms as u64 * 1_000_000, used_ns: 0 }
    }

    /// Takes these turns, each when it is due, and returns when the one after the last is; the ns that it
    /// took. One that was late has less time for the next ones: the pace as a whole is kept.
    fn take(&mut self, turns: Range<usize>, mut each: impl FnMut(usize)) -> u64 {
        let begun = sys::now_ns();
        let due_ns = |turn: usize| self.total_ns / self.turns as u64 * turn as u64;
        let mut next = turns.start;
        loop {
            let time_ns = self.used_ns + (sys::now_ns() - begun);
            while next < turns.end && due_ns(next) <= time_ns {
                each(next);
                next += 1;
            }
            if due_ns(turns.end) <= time_ns {
                break;
            }
            let wake_ns = due_ns(turns.end).min(time_ns + TICK_NS);
            sys::sleep_until(begun + (wake_ns - self.used_ns));
        }
        let ns = sys::now_ns() - begun;
        self.used_ns += ns;
        ns
    }
}

/// The parent writes one byte each to pages that are chosen at random, and the child does nothing.
fn worst_case(args: &Args) -> Option<c_int> {
    Step::<2>::new(args)?.fork(
        |parent| {
            let [portions, writes] = parent.numbers;
            let mut random = Random(SEED);
            for _ in 0..portions {
                for _ in 0..writes {
                    let page = random.below(parent.memory.pages());
                    parent.memory.part(page, page + 1).write(WRITTEN);
                }
                parent.checkpoints.stop();
            }
        },
        |_| {},
    )
}

/// Any number but 0: each run writes the same pages.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Marsaglia's xorshift with 64 bits.
struct Random(u64);

impl Random {
    /// The next one, from 0 up to this bound, which is below 2^32.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper half, as a fraction of 2^32.
        (((self.0 >> 32) * bound as u64) >> 32) as usize
    }
}
