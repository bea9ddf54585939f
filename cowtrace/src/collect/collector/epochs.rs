//! Epochs of a process: the kernel side begins another one at each fork that it makes, and at each end of what such a fork
//! shares, so that what it copies can be told apart by fork.

use std::ops::Range;

use cowtrace_abi::{EPOCH_UNKNOWN, EPOCHS_MIXED};

/// The epochs of a process in which it shared pages with a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epochs {
    from: u64,
    /// Exclusive; `None`: until now, or the parent's end.
    to: Option<u64>,
}

impl Epochs {
    /// From this one on.
    pub(super) fn since(from: u64) -> Epochs {
        Epochs { from, to: None }
    }

    /// Until before this one; 0: the parent had exited.
    pub(super) fn end(&mut self, to: u64) {
        self.to = Some(to).filter(|&to| to != 0);
    }

    /// As counts by stack have them; `None`: they told them apart no longer when it began.
    pub(super) fn of_stacks(self) -> Option<Range<u16>> {
        let known = |epoch: u64| u16::try_from(epoch).unwrap_or(EPOCH_UNKNOWN);
        let from = known(self.from);
        (from != EPOCH_UNKNOWN).then(|| from..self.to.map_or(EPOCH_UNKNOWN, known))
    }

    /// Whether one of this [`number`] is among them.
    pub(super) fn covers(self, epoch: u64) -> bool {
        epoch >= number(self.from) && self.to.is_none_or(|to| epoch < number(to))
    }
}

/// Without what counts by stack need to know.
pub(super) fn number(epoch: u64) -> u64 {
    epoch & !EPOCHS_MIXED
}

/// The number of an epoch of which a window has the low bits, if `last` is the latest that was told. A window may come from
/// an epoch that is told after it.
pub(super) fn number_of_window(last: u64, low: u16) -> u64 {
    const AHEAD: u64 = 1 << 8;
    let latest = last + AHEAD;
    latest.saturating_sub(u64::from((latest as u16).wrapping_sub(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_covers_its_epochs() {
        let mut epochs = Epochs::since(7);
        assert!(!epochs.covers(6) && epochs.covers(7) && epochs.covers(1 << 40));
        epochs.end(9 | EPOCHS_MIXED);
        assert!(epochs.covers(8) && !epochs.covers(9));
        // The parent exited first.
        epochs.end(0);
        assert!(epochs.covers(9));
    }

    #[test]
    fn the_low_bits_tell_the_number() {
        assert_eq!(number_of_window(0, 0), 0);
        assert_eq!(number_of_window(5, 3), 3);
        assert_eq!(number_of_window(5, 7), 7);
        assert_eq!(number_of_window(0x1_0002, 0xffff), 0xffff);
        assert_eq!(number_of_window(0x1_fffe, 1), 0x2_0001);
        assert_eq!(number_of_window(0x1_0002, 0x0150), 0x0150, "gathered long ago");
    }
}
