//! The visible parts of mappings, by address, in a tree that forked processes share.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::{Mapping, RegionId};

/// A part of a mapping that is still visible; the map's key is its first address.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) end: u64,
    pub(super) from_ns: u64,
    pub(super) id: RegionId,
    /// The mapping as it was last reported; its bounds may be wider than the piece's.
    pub(super) mapping: Arc<Mapping>,
}

pub(super) type Pieces = RedBlackTreeMapSync<u64, Piece>;

impl Piece {
    /// The piece as a mapping of its own.
    pub(super) fn as_mapping(&self, start: u64) -> Mapping {
        let whole = &self.mapping;
        let offset = if whole.name.starts_with('/') {
            whole.offset.wrapping_add(start.wrapping_sub(whole.start))
        } else {
            0
        };
        Mapping { start, end: self.end, perms: whole.perms, offset, name: Arc::clone(&whole.name) }
    }
}

/// The piece that holds an address.
pub(super) fn piece_at(pieces: &Pieces, address: u64) -> Option<&Piece> {
    let (_, piece) = pieces.range(..=address).next_back()?;
    (address < piece.end).then_some(piece)
}

/// The pieces that share addresses with a range, with their first addresses, ascending.
pub(super) fn overlapping(pieces: &Pieces, start: u64, end: u64) -> Vec<(u64, Piece)> {
    if start >= end {
        return Vec::new();
    }
    // One walk downwards, as the lowest of them may begin before the range.
    let downwards = pieces.range(..end).rev().take_while(|(_, piece)| piece.end > start);
    let mut found: Vec<(u64, Piece)> = downwards.map(|(&first, piece)| (first, piece.clone())).collect();
    found.reverse();
    found
}
