//! `cowtrace trace`: a line for each fault, while it happens.

use clap::{Args, ValueEnum};
use cowtrace_abi::Kind;

use super::{
    Failure, Globals,
    output::{HumanStream, Output, OutputArgs},
    subject::SubjectArgs,
    trace_lines::{Lines, Wanted},
    tracer::{LatencyArgs, TracingArgs, at_least_one, block_on, prepare},
};
use crate::{
    collect::{Session, SessionOptions},
    model::kind_name,
};

/// Options of `trace`.
#[derive(Args, Debug)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Tell of these kinds of faults, separated by commas
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_enum, hide_possible_values = true,
          default_values = ["copy", "zero", "file", "ksm", "hugetlb", "pinned"],
          long_help = "Tell of these kinds of faults, separated by commas: copy, zero, file, ksm, hugetlb, pinned, \
                       reuse, shared, anon, denied, raced, hugetlb-reuse, thp-split, or all")]
    kind: Vec<KindChoice>,
    /// Tell only of faults in mappings whose name contains TEXT (as in /proc/PID/maps)
    #[arg(long, value_name = "TEXT", conflicts_with = "no_regions")]
    region: Option<String>,
    /// Tell only of faults whose writing function's name contains TEXT
    #[arg(long, value_name = "TEXT", conflicts_with = "no_regions")]
    symbol: Option<String>,
    /// End after N lines; a command then runs on, untraced
    #[arg(long, value_name = "N", value_parser = at_least_one::<u64>)]
    limit: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    latency: LatencyArgs,
    #[command(flatten)]
    tracing: TracingArgs,
}

/// A kind of faults, as [`kind_name`] calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KindChoice {
    All,
    Named(&'static str),
}

impl ValueEnum for KindChoice {
    fn value_variants<'a>() -> &'a [KindChoice] {
        const CHOICES: [KindChoice; 14] = {
            let mut choices = [KindChoice::All; 14];
            let mut index = 0;
            while index < crate::model::KIND_NAMES.len() {
                choices[index] = KindChoice::Named(crate::model::KIND_NAMES[index]);
                index += 1;
            }
            choices
        };
        &CHOICES
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            KindChoice::All => "all",
            KindChoice::Named(name) => name,
        }))
    }
}

impl TraceArgs {
    /// The kinds: bit n stands for the [`Kind`] n.
    fn kinds(&self) -> u64 {
        let chosen = |kind: Kind| {
            self.kind.iter().any(|choice| match choice {
                KindChoice::All => true,
                KindChoice::Named(name) => *name == kind_name(kind),
            })
        };
        Kind::ALL.into_iter().filter(|&kind| chosen(kind)).map(|kind| 1 << kind as u8).sum()
    }
}

/// Processes that have ended and are kept one by one: only sums are told at the end.
const ENDED_KEPT: usize = 1_000;

/// Traces; the result is the command's exit status, if there is one.
pub(super) fn run(args: &TraceArgs, globals: Globals) -> Result<u8, Failure> {
    let stream = if args.subject.is_command() { HumanStream::Stderr } else { HumanStream::Stdout };
    let output = Output::open(&args.output, stream)?;
    let interrupts = prepare()?;
    let (events, latency) = (args.kinds(), args.latency.latency);
    let max_ended = Some(ENDED_KEPT);
    let options = SessionOptions { events, latency, max_ended, ..args.tracing.session(globals) };
    let wanted = Wanted { region: args.region.clone(), function: args.symbol.clone(), limit: args.limit };
    block_on(async {
        let session = args.subject.begin(&options, &output)?;
        let mut lines = Lines::new(output, args.output.format, args.latency.latency, wanted)?;
        let mut each_round = |session: &mut Session| {
            if !lines.round(session) {
                session.end();
            }
        };
        let finished = session.run_with(args.subject.follow(), interrupts, &mut each_round).await?;
        lines.finish(&finished)?;
        Ok::<_, Failure>(finished.status())
    })
}
