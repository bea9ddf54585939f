//! Arrays that the programs and user space share, read and written in memory.
//!
//! bpf(2) keeps the kernel from running kprobe and perf programs on a CPU while it looks an element up there
//! (`bpf_disable_instrumentation`). Where the kernel can be preempted, whoever runs on that CPU meanwhile would have faults
//! that no program sees. So nothing here is asked of the kernel but the mapping itself (`BPF_F_MMAPABLE`, Linux 5.5).

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use aya::{
    Ebpf, Pod,
    maps::{Array, IterableMap as _, MapData},
};
use memmap2::{MmapOptions, MmapRaw};

use super::{ProbeError, slots::take};

/// What is mapped at once: of a large array, as much as is used counts as memory of this process.
const CHUNK_BYTES: usize = 64 << 10;

const WORD: usize = size_of::<u64>();

/// An array map, by index.
pub(super) struct SharedArray<T: Pod> {
    map: Array<MapData, T>,
    memory: Chunks,
}

impl<T: Pod> SharedArray<T> {
    /// The kernel keeps elements at multiples of eight bytes.
    const WORDS: usize = size_of::<T>().div_ceil(WORD);

    /// Takes it out of the object.
    pub(super) fn of(object: &mut Ebpf, name: &str) -> Result<SharedArray<T>, ProbeError> {
        let map: Array<MapData, T> = take(object, name)?;
        let memory = Chunks::of(map.len() as usize * Self::WORDS * WORD);
        Ok(SharedArray { map, memory })
    }

    /// How many elements there are.
    pub(super) fn len(&self) -> u32 {
        self.map.len()
    }

    /// An element, word by word: programs may change it meanwhile.
    pub(super) fn get(&self, index: u32) -> io::Result<T> {
        // SAFETY: any bits are a value of this type.
        let mut value: T = unsafe { std::mem::zeroed() };
        // SAFETY: the bytes of a value that has no padding that matters.
        let bytes = unsafe { std::slice::from_raw_parts_mut((&raw mut value).cast::<u8>(), size_of::<T>()) };
        for (place, part) in self.words(index)?.zip(bytes.chunks_mut(WORD)) {
            let word = self.memory.word(self.fd(), place)?.load(Ordering::Relaxed).to_ne_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
        Ok(value)
    }

    /// Overwrites an element, word by word.
    pub(super) fn set(&self, index: u32, value: &T) -> io::Result<()> {
        // SAFETY: the bytes of a plain value.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const *value).cast::<u8>(), size_of::<T>()) };
        for (place, part) in self.words(index)?.zip(bytes.chunks(WORD)) {
            let mut word = [0; WORD];
            word[..part.len()].copy_from_slice(part);
            self.memory.word(self.fd(), place)?.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Places of the words of an element.
    fn words(&self, index: u32) -> io::Result<std::ops::Range<usize>> {
        if index >= self.map.len() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let first = index as usize * Self::WORDS;
        Ok(first..first + Self::WORDS)
    }

    fn fd(&self) -> RawFd {
        self.map.map().fd().as_fd().as_raw_fd()
    }
}

/// The memory of an array, mapped where it is used.
struct Chunks {
    chunks: Box<[OnceLock<MmapRaw>]>,
    chunk_bytes: usize,
    bytes: usize,
}

impl Chunks {
    fn of(bytes: usize) -> Chunks {
        let page_bytes = crate::kernel::page_size() as usize;
        let (chunk_bytes, bytes) = (CHUNK_BYTES.max(page_bytes), bytes.next_multiple_of(page_bytes));
        let chunks = (0..bytes.div_ceil(chunk_bytes)).map(|_| OnceLock::new()).collect();
        Chunks { chunks, chunk_bytes, bytes }
    }

    /// The word at a place.
    fn word(&self, fd: RawFd, place: usize) -> io::Result<&AtomicU64> {
        let at = place * WORD;
        let index = at / self.chunk_bytes;
        let chunk = self.chunks.get(index).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let memory = match chunk.get() {
            Some(memory) => memory,
            None => {
                let begin = index * self.chunk_bytes;
                let length = self.chunk_bytes.min(self.bytes - begin);
                let new = MmapOptions::new().offset(begin as u64).len(length).map_raw(fd)?;
                chunk.get_or_init(|| new)
            }
        };
        // SAFETY: an aligned word inside the mapping, which lives as long as the chunk, and which nobody takes to be constant.
        Ok(unsafe { AtomicU64::from_ptr(memory.as_mut_ptr().add(at % self.chunk_bytes).cast()) })
    }
}
