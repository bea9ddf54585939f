//! A map from page or frame numbers to small numbers that holds millions of them: made like a page table.

use std::collections::BTreeMap;

/// Neighbours that share a chunk.
const CHUNK: usize = 512;
const BITS: u32 = CHUNK.trailing_zeros();
/// Marks a place without a value.
const NONE: u32 = u32::MAX;

/// Four bytes for each number, as long as these come in runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    chunks: BTreeMap<u64, Box<[u32; CHUNK]>>,
}

fn place(key: u64) -> (u64, usize) {
    (key >> BITS, key as usize & (CHUNK - 1))
}

impl Table {
    pub fn get(&self, key: u64) -> Option<u32> {
        let (chunk, index) = place(key);
        Some(self.chunks.get(&chunk)?[index]).filter(|&value| value != NONE)
    }

    /// Any value but `u32::MAX`.
    pub fn insert(&mut self, key: u64, value: u32) {
        let (chunk, index) = place(key);
        self.chunks.entry(chunk).or_insert_with(|| Box::new([NONE; CHUNK]))[index] = value;
    }

    pub fn remove(&mut self, key: u64) -> Option<u32> {
        let (chunk, index) = place(key);
        let value = std::mem::replace(&mut self.chunks.get_mut(&chunk)?[index], NONE);
        (value != NONE).then_some(value)
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.chunks.iter().flat_map(|(&chunk, values)| {
            let keys = chunk << BITS..;
            keys.zip(values.iter().copied()).filter(|&(_, value)| value != NONE)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_and_go_and_are_listed_in_order() {
        let mut table = Table::default();
        for key in [u64::MAX >> 12, 512, 511, 0] {
            table.insert(key, key as u32 & 0xffff);
        }
        assert_eq!((table.get(511), table.get(513), table.get(5 << 20)), (Some(511), None, None));
        table.insert(511, 7);
        assert_eq!(table.remove(0), Some(0));
        assert_eq!(table.remove(0), None);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(511, 7), (512, 512), (u64::MAX >> 12, 0xffff)]);
    }
}
