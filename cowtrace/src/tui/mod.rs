//! The live view: who copies, how fast, and what forks in flight cost, for an operator who keeps it open.
//!
//! [`model`] does no I/O: it turns reports of a session into frames, and keys into what is shown of them. [`draw`] makes
//! lines of both. [`Screen`] alone touches the terminal.

pub mod draw;
mod keys;
pub mod model;
mod screen;

pub use screen::Screen;
