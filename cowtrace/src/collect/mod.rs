//! From maps and rings to the model: starting a command under the programs, and gathering what they tell.

mod collector;
mod launch;
mod pending;
mod record;
mod session;
mod signals;

pub use launch::{Launch, LaunchError};
pub use session::{Finished, Session, SessionError, SessionOptions};
pub use signals::Interrupts;
