//! cowtrace: every copy-on-write page copy on a Linux machine, counted in the kernel and explained.
//!
//! The layers, from the kernel up: [`kernel`] knows the running kernel, [`probe`] loads and attaches the eBPF
//! programs, [`collect`] turns maps and rings into the [`model`], which does no I/O; [`export`] sees finished reports
//! only; [`proc`] reads `/proc`; [`symbols`] names code; [`recording`] keeps sessions in files; [`diff`] compares two reports; [`ledger`] explains `Private_Dirty`; [`lab`] runs the experiments; [`tui`] is the live view; [`cli`] is the
//! command line.

pub mod cli;
pub mod collect;
pub mod diff;
pub mod doctor;
pub mod export;
mod files;
pub mod kernel;
pub mod lab;
pub mod ledger;
pub mod model;
pub mod probe;
pub mod proc;
pub mod recording;
pub mod symbols;
pub mod tui;
pub mod verify;
