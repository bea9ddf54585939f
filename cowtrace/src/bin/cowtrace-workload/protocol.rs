//! The words that a lab step and its orchestrator exchange; compiled into both.
//!
//! At a checkpoint a process writes one [`Record`] to [`STATUS_FD`] and blocks in read(2) on its own
//! [`control_fd`]. One byte lets it go on; end of file means that the orchestrator is gone, and the process
//! exits. In between it may write records that carry only figures ([`SAMPLE`]), and does not stop for these.
#![allow(dead_code, reason = "each side uses its half")]

/// Last argument of a step that is to stop at its checkpoints.
pub const LAB_ARGUMENT: &str = "lab";

/// Where records go: the writing end of a pipe.
pub const STATUS_FD: i32 = 3;

/// Most processes that a step can have.
pub const MAX_ROLES: usize = 8;

/// [`Record::checkpoint`] of a record that carries figures and is no checkpoint.
pub const SAMPLE: u32 = u32::MAX;

/// Figures in a record.
pub const VALUES: usize = 4;

/// Descriptor on which the process with this role waits: parent 0, child 1, and so on as the step has it.
pub const fn control_fd(role: usize) -> i32 {
    STATUS_FD + 1 + role as i32
}

/// Length of a record on the pipe; far below PIPE_BUF, so that records of two processes never mix.
pub const RECORD_LEN: usize = 32 + 8 * VALUES;

const MAGIC: u32 = u32::from_ne_bytes(*b"cow1");

/// A process has arrived at a checkpoint, or has measured something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Process id, as the process sees it.
    pub pid: u32,
    /// Role: parent 0, child 1, and so on.
    pub role: u32,
    /// Number of the checkpoint in this step, or [`SAMPLE`].
    pub checkpoint: u32,
    /// Address of the step's buffer, 0 while there is none.
    pub address: u64,
    /// Size of the buffer, bytes.
    pub size: u64,
    /// What the process has measured; their meaning is the step's.
    pub values: [u64; VALUES],
}

impl Record {
    /// As it goes through the pipe.
    pub fn to_bytes(self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        bytes[0..4].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.pid.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.role.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.checkpoint.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.address.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.size.to_ne_bytes());
        for (place, value) in bytes[32..].chunks_exact_mut(8).zip(self.values) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    /// What came out of the pipe, if it is a record.
    pub fn from_bytes(bytes: &[u8; RECORD_LEN]) -> Option<Record> {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| {
            let mut value = [0; 8];
            value.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(value)
        };
        (word(0) == MAGIC).then(|| Record {
            pid: word(4),
            role: word(8),
            checkpoint: word(12),
            address: long(16),
            size: long(24),
            values: std::array::from_fn(|index| long(32 + 8 * index)),
        })
    }
}
