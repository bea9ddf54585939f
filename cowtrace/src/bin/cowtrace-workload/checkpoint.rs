//! The workload's side of the checkpoint protocol.

use crate::{
    protocol::{Record, STATUS_FD, control_fd},
    sys,
};

/// A process of a step, and where it has come to.
pub struct Checkpoints {
    /// Whether the orchestrator is there; without it nothing stops.
    active: bool,
    role: u32,
    next: u32,
    address: u64,
    size: u64,
}

impl Checkpoints {
    /// Those of the first process of the step.
    pub fn new(active: bool) -> Checkpoints {
        Checkpoints { active, role: 0, next: 0, address: 0, size: 0 }
    }

    /// Tells the orchestrator where the step's buffer is, from the next checkpoint on.
    pub fn buffer(&mut self, address: *mut u8, size: usize) {
        self.address = address as u64;
        self.size = size as u64;
    }

    /// To be called in a child right after its fork: it has a control pipe of its own.
    pub fn become_child(&mut self) {
        self.role += 1;
        sys::die_with_parent();
    }

    /// Reports, and waits to be let go on.
    pub fn stop(&mut self) {
        let checkpoint = self.next;
        self.next += 1;
        if !self.active {
            return;
        }
        let record = Record {
            pid: sys::getpid(),
            role: self.role,
            checkpoint,
            address: self.address,
            size: self.size,
        };
        if !sys::write(STATUS_FD, &record.to_bytes()) {
            sys::fail("cannot report a checkpoint to the lab (write to descriptor 3)");
        }
        let mut go = [0];
        match sys::read(control_fd(self.role as usize), &mut go) {
            1 => {}
            // The orchestrator is gone: nothing may be left behind.
            0 => sys::exit_now(1),
            _ => sys::fail("cannot wait for the lab (read from the control descriptor)"),
        }
    }
}
