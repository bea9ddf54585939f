//! `cowtrace verify`: trace a command, and hold the counts against the kernel's own.

use std::time::Duration;

use clap::Args;

use super::{
    Failure, Globals,
    output::{Format, HumanStream, Output, OutputArgs},
    subject::CommandArgs,
    tracer::{TracingArgs, prepare},
};
use crate::{
    export,
    verify::{VerifyOptions, verify},
};

/// Options of `verify`.
#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    tracing: TracingArgs,
    /// Stop all processes at these times after the start (such as 200ms,800ms), read their smaps, and let the events
    /// between them explain Private_Dirty
    #[arg(long, value_name = "T1,T2", value_parser = moments, conflicts_with = "no_regions")]
    ledger: Option<Moments>,
    #[command(flatten)]
    command: CommandArgs,
}

/// Two moments after the start.
type Moments = [Duration; 2];

fn moments(text: &str) -> Result<Moments, String> {
    let (first, second) = text.split_once(',').ok_or("two times are needed, such as 200ms,800ms")?;
    let time =
        |text: &str| humantime::parse_duration(text.trim()).map_err(|error| format!("{text:?}: {error}"));
    let (first, second) = (time(first)?, time(second)?);
    if first < second {
        Ok([first, second])
    } else {
        Err("the second time must be later than the first".into())
    }
}

/// Runs the command and compares; the result is the exit status.
pub(super) fn run(args: &VerifyArgs, globals: Globals) -> Result<u8, Failure> {
    let output = Output::open(&args.output, HumanStream::Stderr)?;
    let interrupts = prepare()?;
    let options = VerifyOptions {
        launch: args.command.launch(&output),
        session: args.tracing.session(globals),
        follow: args.command.follow(),
        ledger: args.ledger,
    };
    let report = verify(options, interrupts)?;
    let bytes = match args.output.format {
        Format::Json => export::json(&report)?,
        Format::Human => export::verify(&report, &output.style(globals)).into_bytes(),
    };
    output.write(&bytes)?;
    Ok(u8::from(!report.totals.verdict.holds()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_two_times_in_order() {
        let ms = Duration::from_millis;
        assert_eq!(moments("200ms,800ms"), Ok([ms(200), ms(800)]));
        assert_eq!(moments("0s, 1s 500ms"), Ok([ms(0), ms(1500)]));
        for (bad, word) in [("1s", "two times"), ("1s,", "\"\""), ("1s,2", "time unit"), ("2s,1s", "later")] {
            let error = moments(bad).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
