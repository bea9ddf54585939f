//! The workload's side of the checkpoint protocol.

use crate::{
    protocol::{LAB_ARGUMENT, Record, SAMPLE, STATUS_FD, VALUES, control_fd},
    sys::{self, Args},
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
    /// Those of the first process of a step; the orchestrator is there if the last argument says so.
    pub fn new(args: &Args) -> Checkpoints {
        let active = args.last() == Some(LAB_ARGUMENT.as_bytes());
        Checkpoints { active, role: 0, next: 0, address: 0, size: 0 }
    }

    /// Number of arguments after the step's name, the last one not counted if it is the orchestrator's.
    pub fn given(&self, args: &Args) -> usize {
        args.len() - 2 - usize::from(self.active)
    }

    /// Tells the orchestrator where the step's buffer is, from the next checkpoint on.
    pub fn buffer(&mut self, address: *mut u8, size: usize) {
        self.address = address as u64;
        self.size = size as u64;
    }

    /// To be called in a child right after its fork: it has the next role, and so a control pipe of its own.
    pub fn become_child(&mut self) {
        self.become_role(self.role + 1);
    }

    /// The same for a child with another role than the next one, such as the second child of one parent.
    pub fn become_role(&mut self, role: u32) {
        self.role = role;
        sys::die_with_parent();
    }

    /// Reports figures, and goes on.
    pub fn sample(&self, values: [u64; VALUES]) {
        if self.active {
            self.report(SAMPLE, values);
        }
    }

    /// Reports, and waits to be let go on.
    pub fn stop(&mut self) {
        let checkpoint = self.next;
        self.next += 1;
        if !self.active {
            return;
        }
        self.report(checkpoint, [0; VALUES]);
        let mut go = [0];
        match sys::read(control_fd(self.role as usize), &mut go) {
            1 => {}
            // The orchestrator is gone: nothing may be left behind.
            0 => sys::exit_now(1),
            _ => sys::fail("cannot wait for the lab (read from the control descriptor)"),
        }
    }

    fn report(&self, checkpoint: u32, values: [u64; VALUES]) {
        let record = Record {
            pid: sys::getpid(),
            role: self.role,
            checkpoint,
            address: self.address,
            size: self.size,
            values,
        };
        if !sys::write(STATUS_FD, &record.to_bytes()) {
            sys::fail("cannot report to the lab (write to descriptor 3)");
        }
    }
}
