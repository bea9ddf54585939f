//! `--forecast`: what forks in flight will have copied, told while they go on.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;

use super::subject::duration;
use crate::{
    collect::{Lifetime, Session},
    export,
};

/// Options of commands that trace.
#[derive(Args, Debug)]
pub(super) struct ForecastArgs {
    /// Tell how much each fork will have copied when it ends, after TIME; without one, when it is as old as the last one of
    /// the same process became
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = duration)]
    #[expect(clippy::option_option, reason = "not asked for, asked for, and with a time")]
    forecast: Option<Option<Duration>>,
}

impl ForecastArgs {
    /// For the session's options.
    pub(super) fn lifetime(&self) -> Option<Lifetime> {
        self.forecast.map(|time| time.map_or(Lifetime::AsBefore, Lifetime::Known))
    }
}

/// Tells forecasts on standard error, each when the fork is half as old again as at the last one.
#[derive(Default)]
pub(super) struct Teller {
    /// Age that a fork, named by its child and its begin, had when it was last told of, ns.
    told: HashMap<(u32, u64), u64>,
}

impl Teller {
    /// To be called in each round of the session.
    pub(super) fn tell(&mut self, session: &Session) {
        let mut in_flight = HashMap::new();
        for (parent, child, fork_ns, forecast) in session.forecasts() {
            let age_ns = forecast.at_ns.saturating_sub(fork_ns);
            let mut told = self.told.get(&(child, fork_ns)).copied().unwrap_or(0);
            if age_ns >= told + told / 2 && age_ns > told {
                told = age_ns;
                let line = format!(
                    "cowtrace: fork {parent} → {child}, after {}: {} are expected to be copied after {} ({} to {})\n",
                    export::duration(age_ns),
                    export::bytes(forecast.expected_bytes),
                    export::duration(forecast.end_ns.saturating_sub(fork_ns)),
                    export::bytes(forecast.low_bytes),
                    export::bytes(forecast.high_bytes),
                );
                // Nobody may be there to read it.
                let _ = io::stderr().write_all(line.as_bytes());
            }
            in_flight.insert((child, fork_ns), told);
        }
        self.told = in_flight;
    }
}
