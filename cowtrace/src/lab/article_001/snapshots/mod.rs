//! A child that keeps the memory as it was at the fork, while its parent writes on.

mod random;
mod save;

use super::{SOURCE, shared_buffer::BUFFER};
use crate::lab::{experiment::Experiment, size::Scale};

const MIB: u64 = 1 << 20;

pub(super) static EXPERIMENTS: [Experiment; 2] = [
    Experiment {
        id: "snapshot",
        source: SOURCE,
        title: "A snapshot costs what is written while it is taken",
        about: "The model of Redis' BGSAVE: a process forks; the child reads the whole dataset, as if to save \
                it, while the parent goes on to write, to one page in ten. Then the child exits.",
        expect: "The child finds every page as it was at the fork. The parent's copies are all the memory that \
                 this takes: a tenth of the dataset. When the child exits, that much is free again.",
        lesson: "The room that a snapshot needs is the rate at which new pages are written, times the time that \
                 the save takes: not a second dataset. Only pages count that were not written before since the \
                 fork, so the rate falls in time, and the product is the upper bound.",
        focus: BUFFER,
        size: Some(Scale { default_bytes: 64 * MIB, least_bytes: 4 * MIB, peak_percent: 130 }),
        run: save::run,
    },
    Experiment {
        id: "worst-case",
        source: SOURCE,
        title: "Random writes beside a long-lived child copy nearly everything",
        about: "A process fills a buffer and forks. The child lives on and does nothing, while the parent \
                writes single bytes to pages chosen at random: in the end four writes for each page there is.",
        expect: "At first each write meets a new page, and is a copy; later most meet one that was copied \
                 before. After w writes to N pages, N (1 - e^(-w/N)) of them are copied: 63 % after N writes, \
                 98 % after four times N.",
        lesson: "This is how fork comes close to a full copy: small writes, spread widely, and a child that \
                 stays. How many bytes are written hardly matters; how many pages they fall on, and for how \
                 long, does.",
        focus: BUFFER,
        size: Some(Scale { default_bytes: 64 * MIB, least_bytes: 64 * MIB, peak_percent: 225 }),
        run: random::run,
    },
];
