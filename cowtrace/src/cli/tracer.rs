//! What all commands that trace share: options of the session, and the event loop that it runs in.

use std::{
    num::{IntErrorKind, ParseIntError},
    str::FromStr,
};

use anyhow::Context as _;
use clap::Args;

use super::{Failure, Globals};
use crate::{
    collect::{DEFAULT_MAX_ENDED, Interrupts, SessionOptions},
    probe::{BackendChoice, DEFAULT_MAX_TASKS, preflight},
};

/// Options of commands that trace.
#[derive(Args, Debug)]
pub(super) struct TracingArgs {
    /// Which kernel hooks to use
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Do not attribute faults to mappings (the cheapest way to count)
    #[arg(long)]
    no_regions: bool,
    /// Follow at most N threads, and N processes, at the same time; more are counted as lost
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_TASKS, value_parser = at_least_one::<u32>)]
    max_tasks: u32,
}

/// Option of commands that can measure how long copies take.
#[derive(Args, Debug)]
pub(super) struct LatencyArgs {
    /// Measure how long copies take: count, total, median, 99th percentile and maximum (a fault takes some 500 ns longer)
    #[arg(long)]
    pub(super) latency: bool,
}

/// Option of commands whose report tells of each process.
#[derive(Args, Debug)]
pub(super) struct EndedArgs {
    /// Of the processes that have ended, keep the N that copied most one by one once there are twice as many; the others become
    /// sums by command name
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_ENDED, value_parser = at_least_one::<usize>)]
    max_ended: usize,
}

impl EndedArgs {
    /// For the session's options.
    pub(super) fn most(&self) -> Option<usize> {
        Some(self.max_ended)
    }
}

/// A number of things, as an option's value.
pub(super) fn at_least_one<T: FromStr<Err = ParseIntError> + PartialEq + Default>(
    text: &str,
) -> Result<T, String> {
    match text.parse() {
        Ok(number) if number == T::default() => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err("it is too large".to_owned()),
        Err(_) => Err("it must be a whole number, at least 1".to_owned()),
    }
}

impl TracingArgs {
    /// A session with these options, and nothing that is asked for besides.
    pub(super) fn session(&self, globals: Globals) -> SessionOptions {
        SessionOptions {
            regions: !self.no_regions,
            log_level: globals.kernel_log_level(),
            ..SessionOptions::new(self.backend, self.max_tasks)
        }
    }
}

/// Makes sure that tracing is possible at all, and that signals no longer end this process from here on.
pub(super) fn prepare() -> Result<Interrupts, Failure> {
    preflight()?;
    Interrupts::watch().context("cannot watch for signals").map_err(Failure::failed)
}

/// Runs a session to its end.
pub(super) fn block_on<T, E>(session: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let event_loop = crate::collect::event_loop().map_err(Failure::failed)?;
    Ok(event_loop.block_on(session)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_things_are_refused_in_words() {
        assert_eq!(at_least_one::<u32>("7"), Ok(7));
        for (text, word) in
            [("0", "at least 1"), ("-1", "whole number"), ("x", "whole number"), ("99999999999", "large")]
        {
            assert!(at_least_one::<u32>(text).unwrap_err().contains(word), "{text}");
        }
    }
}
