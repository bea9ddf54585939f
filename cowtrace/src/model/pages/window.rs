//! Counts of 64 neighbouring pages: a bit for what happened once, numbers only where it happened again.

use cowtrace_abi::Kind;

use super::{AGAIN_BYTES, Hits, Room, WINDOW_BYTES};
use crate::model::PageBatch;

/// Times beyond the first, page by page.
type Again = Option<Box<[u32; 64]>>;

/// Pages of one window.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    copied: u64,
    replaced: u64,
    copied_again: Again,
    replaced_again: Again,
    /// No earlier than the last hit, monotonic ns.
    pub(super) last_ns: u64,
    /// The kinds of replacements, a bit for each [`Kind`].
    pub(super) kinds: u16,
}

impl Window {
    /// Counts one hit for each bit; returns the bits that found no room.
    pub(super) fn count(&mut self, bitmap: u64, batch: &PageBatch, room: &mut Room) -> u64 {
        let new = bitmap & !(self.copied | self.replaced);
        let bitmap_lost = new & !room.take_pages(new);
        let bitmap = bitmap & !bitmap_lost;
        let (once, again) = match batch.kind {
            Kind::Copy => (&mut self.copied, &mut self.copied_again),
            _ => (&mut self.replaced, &mut self.replaced_again),
        };
        let repeated = bitmap & *once;
        *once |= bitmap;
        let mut lost = bitmap_lost;
        if repeated != 0 {
            if again.is_none() && room.take(AGAIN_BYTES) {
                *again = Some(Box::new([0; 64]));
            }
            match again {
                Some(counts) => add(counts, repeated),
                None => lost |= repeated,
            }
        }
        self.last_ns = self.last_ns.max(batch.last_ns);
        if batch.kind != Kind::Copy {
            self.kinds |= 1 << batch.kind as u8;
        }
        lost
    }

    /// Pages that it has counts of, and bytes that it took for them.
    pub(super) fn taken(&self) -> Room {
        let again = [&self.copied_again, &self.replaced_again].into_iter().flatten().count() as u64;
        Room {
            pages: u64::from((self.copied | self.replaced).count_ones()),
            bytes: WINDOW_BYTES + again * AGAIN_BYTES,
        }
    }

    /// What happened to one of its pages.
    pub(super) fn hits(&self, bit: usize) -> Hits {
        Hits {
            copies: times(self.copied, &self.copied_again, bit),
            replacements: times(self.replaced, &self.replaced_again, bit),
        }
    }
}

fn times(once: u64, again: &Again, bit: usize) -> u32 {
    let more = again.as_ref().and_then(|counts| counts.get(bit).copied()).unwrap_or(0);
    u32::from(once >> bit & 1 != 0).saturating_add(more)
}

fn add(counts: &mut [u32; 64], bits: u64) {
    for (bit, count) in counts.iter_mut().enumerate() {
        *count = count.saturating_add(u32::from(bits >> bit & 1 != 0));
    }
}
