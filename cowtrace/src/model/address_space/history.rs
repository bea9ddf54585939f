//! Mappings that are no more, for faults that are told later than they happened.

use std::collections::VecDeque;
use std::sync::Arc;

use super::piece::{Piece, Pieces, piece_at};
use super::{MAX_IMAGES, MAX_SUPERSEDED, Mapping, RegionId};

/// One mapping at some address, for as long as it was there.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) id: RegionId,
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    pub(super) mapping: Arc<Mapping>,
}

impl Version {
    pub(super) fn of(piece: &Piece, until_ns: u64) -> Version {
        Version { id: piece.id, from_ns: piece.from_ns, until_ns, mapping: Arc::clone(&piece.mapping) }
    }

    pub(super) fn writable(&self) -> bool {
        self.mapping.perms.write
    }
}

/// A part of a mapping that another one hid, or that was unmapped.
#[derive(Clone, Debug)]
struct Superseded {
    start: u64,
    end: u64,
    version: Version,
}

/// All mappings before an exec.
#[derive(Clone, Debug)]
struct Image {
    pieces: Pieces,
    until_ns: u64,
}

/// What was, bounded; both lists are ordered by their ends in time.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    superseded: VecDeque<Superseded>,
    images: VecDeque<Image>,
}

impl History {
    /// Keeps a part of a piece; returns how many older parts had to go.
    pub(super) fn push(&mut self, start: u64, end: u64, piece: &Piece, until_ns: u64) -> u64 {
        let version = Version::of(piece, until_ns);
        let index = self.superseded.partition_point(|old| old.version.until_ns <= until_ns);
        self.superseded.insert(index, Superseded { start, end, version });
        let excess = self.superseded.len().saturating_sub(MAX_SUPERSEDED);
        self.superseded.drain(..excess);
        excess as u64
    }

    /// Keeps a whole image; returns how many pieces of older images had to go.
    pub(super) fn push_image(&mut self, pieces: Pieces, until_ns: u64) -> u64 {
        if pieces.is_empty() {
            return 0;
        }
        self.images.push_back(Image { pieces, until_ns });
        let excess = self.images.len().saturating_sub(MAX_IMAGES);
        self.images.drain(..excess).map(|image| image.pieces.size() as u64).sum()
    }

    /// What ended after `at_ns`: all that a child forked then can have had.
    pub(super) fn since(&self, at_ns: u64) -> History {
        let superseded = self.superseded.partition_point(|old| old.version.until_ns <= at_ns);
        let images = self.images.partition_point(|image| image.until_ns <= at_ns);
        History {
            superseded: self.superseded.range(superseded..).cloned().collect(),
            images: self.images.range(images..).cloned().collect(),
        }
    }

    /// Calls `found` for each mapping that held an address at some time from `first_ns` to `last_ns`.
    pub(super) fn versions_at(
        &self,
        address: u64,
        first_ns: u64,
        last_ns: u64,
        found: &mut impl FnMut(Version),
    ) {
        for old in self.superseded.iter().rev().take_while(|old| old.version.until_ns > first_ns) {
            if old.holds(address) && old.version.from_ns <= last_ns {
                found(old.version.clone());
            }
        }
        for image in self.images.iter().rev().take_while(|image| image.until_ns > first_ns) {
            if let Some(piece) = piece_at(&image.pieces, address).filter(|piece| piece.from_ns <= last_ns) {
                found(Version::of(piece, image.until_ns));
            }
        }
    }

    /// Whether nothing ended after `at_ns`.
    pub(super) fn is_quiet_since(&self, at_ns: u64) -> bool {
        self.superseded.back().is_none_or(|old| old.version.until_ns <= at_ns)
            && self.images.back().is_none_or(|image| image.until_ns <= at_ns)
    }

    /// The mapping that held an address last.
    pub(super) fn latest_at(&self, address: u64) -> Option<Version> {
        let superseded = self.superseded.iter().rev().find(|old| old.holds(address));
        let image = self
            .images
            .iter()
            .rev()
            .find_map(|image| Some(Version::of(piece_at(&image.pieces, address)?, image.until_ns)));
        superseded
            .map(|old| old.version.clone())
            .into_iter()
            .chain(image)
            .max_by_key(|version| version.until_ns)
    }
}

impl Superseded {
    fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}
