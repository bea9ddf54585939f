//! From maps and rings to the model: starting a command under the programs, and gathering what they tell.

mod collector;
mod launch;
mod pending;
mod record;
mod session;
mod signals;
mod stacks;
mod targets;

pub use launch::{Launch, LaunchError};
pub use session::{
    Attach, DEFAULT_MAX_ENDED, Finished, Lifetime, Pace, Session, SessionError, SessionOptions, event_loop,
};
pub use signals::Interrupts;
pub use targets::{Target, TargetError};
