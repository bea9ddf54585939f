//! Recordings: a session in one SQLite file, which is whole at every moment up to its last snapshot.
//!
//! [`Place`] is where it will be; [`Recorder`] takes a snapshot each second and writes it in a thread of its own; [`read`] gives the report back.

mod error;
mod place;
mod read;
mod recorder;
mod samples;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub use error::{ReadError, RecordError};
pub use place::Place;
pub use read::read;
pub use recorder::{Recorder, Summary};
