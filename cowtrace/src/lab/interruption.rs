//! Ctrl-C and its like: looked for wherever the lab waits, so that it ends orderly.

use std::{cell::RefCell, rc::Rc};

use nix::sys::signal::Signal;

use crate::collect::Interrupts;

/// The lab was told to stop.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stopped by {signal}")]
pub struct Interrupted {
    /// What told it.
    pub signal: Signal,
}

/// Whether the lab was told to stop; once it was, it stays so.
#[derive(Clone, Default)]
pub(super) struct Interruption(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    source: Option<Interrupts>,
    seen: Option<Signal>,
}

impl Interruption {
    pub fn new(source: Option<Interrupts>) -> Interruption {
        Interruption(Rc::new(RefCell::new(State { source, seen: None })))
    }

    /// An error as soon as a signal has come.
    pub fn check(&self) -> Result<(), Interrupted> {
        let mut state = self.0.borrow_mut();
        if state.seen.is_none() {
            state.seen = state.source.as_mut().and_then(Interrupts::take).map(|interrupt| interrupt.signal);
        }
        state.seen.map_or(Ok(()), |signal| Err(Interrupted { signal }))
    }
}
