//! Writes after a fork: one page, none, one byte of each, half of them.

mod every_page;
mod half;
mod none;
mod one_page;

use super::{SOURCE, shared_buffer::BUFFER};
use crate::lab::{experiment::Experiment, size::Scale};

const MIB: u64 = 1 << 20;

pub(super) static EXPERIMENTS: [Experiment; 4] = [
    Experiment {
        id: "parent-writes-page",
        source: SOURCE,
        title: "The writer gets a new page, the other keeps the old one",
        about: "A process fills a buffer of 16 pages and forks. The parent writes to one page, twice; then the \
                child writes to the same page of its own.",
        expect: "One copy, by the parent's first write: behind its address there is another frame now, and the \
                 old one is the child's alone. The second write takes no fault at all. The child's write does: \
                 its entry is still read-only. But the kernel sees that nobody else has the page, and copies \
                 nothing.",
        lesson: "Two processes, one copy: after a fork a page is copied one time less than it has users. The \
                 last one keeps the original, and pays with a fault without a copy (reuse) if it ever writes.",
        focus: BUFFER,
        size: None,
        run: one_page::run,
    },
    Experiment {
        id: "read-only-child",
        source: SOURCE,
        title: "Reading is free",
        about: "A process fills a large buffer and forks. The child reads every byte of it, and writes none.",
        expect: "No copy, and hardly a fault: fork has filled the child's page tables already. Rss shows the \
                 whole buffer in both, Pss half of it in each.",
        lesson: "Added up, Rss says that memory doubled; the frames say that there is one set of them. What fork \
                 itself cost is page tables: 8 bytes for each page.",
        focus: BUFFER,
        size: Some(Scale { default_bytes: 256 * MIB, least_bytes: MIB, peak_percent: 110 }),
        run: none::run,
    },
    Experiment {
        id: "byte-per-page",
        source: SOURCE,
        title: "One byte in each page copies everything",
        about: "A process fills a large buffer and forks. The child writes one byte to each page, in portions; \
                at last the parent does the same.",
        expect: "As many copies as pages, and as many minor faults. With each copy both processes get one page \
                 more of Private_Dirty; in the end the buffer is there twice. The parent's writes then copy \
                 nothing.",
        lesson: "The unit of copying is the page, however little is written. And one side is enough to double \
                 the memory: the other one is left alone with the originals.",
        focus: BUFFER,
        size: Some(Scale { default_bytes: 256 * MIB, least_bytes: MIB, peak_percent: 220 }),
        run: every_page::run,
    },
    Experiment {
        id: "half-heap",
        source: SOURCE,
        title: "What is written moves from Shared_Dirty to Private_Dirty, in both",
        about: "A process fills a large buffer and forks. The child writes to the first half.",
        expect: "Before, all of it is Shared_Dirty. After, half of it is Private_Dirty: in the child, which has \
                 copies of its own, and in the parent, which did nothing.",
        lesson: "Shared and private tell how many processes map a page, dirty tells that it was ever written. \
                 That half of the parent became private only means that the child has left it.",
        focus: BUFFER,
        size: Some(Scale { default_bytes: 128 * MIB, least_bytes: MIB, peak_percent: 165 }),
        run: half::run,
    },
];
