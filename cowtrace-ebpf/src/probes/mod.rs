//! Attach points: thin twins that hand the pieces of a fault to its one body.

pub mod tracepoint;
pub mod trial;
