//! `cargo xtask bench`: builds, then measures what tracing costs per copy-on-write fault.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

mod contender;
mod scores;

use contender::{Bench, Contender};
use scores::Scores;

use crate::{build, setup::Needs, sys};

/// Options of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Pages that the workload copies in each run
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// Runs of each contender, each between two untraced ones
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: u64,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail where the median ratio of `cowtrace --no-regions` is above this
    #[arg(long, value_name = "RATIO")]
    max_ratio: Option<f64>,
}

/// The command.
pub fn command(args: &Args) -> Result<ExitCode> {
    if let Some(file) = &args.json {
        // Now, rather than after minutes of measuring.
        fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let programs = build::build(Needs::Tests)?;
    let scratch = Scratch::new()?;
    let bench = Bench { programs: &programs, pages: args.pages, scratch: &scratch.0 };
    let mut entries: Vec<(Contender, Result<Scores>)> = Vec::new();
    // The first run of each is to warm up, and shows whether it can run here at all.
    bench.run(Contender::Untraced).context("the workload does not run even untraced")?;
    for contender in Contender::TRACED {
        match bench.run(contender) {
            Ok(_) => entries.push((contender, Ok(Scores::default()))),
            // Other people's tools may be absent or refuse this kernel; cowtrace may not.
            Err(reason) if !contender.is_ours() => entries.push((contender, Err(reason))),
            Err(error) => return Err(error).with_context(|| format!("`{}` failed", contender.name())),
        }
    }
    let untraced = measure(&bench, args.pairs, &mut entries)?;

    print!("{}", scores::table(args.pages, &untraced, &entries));
    if let Some(file) = &args.json {
        let json = scores::json(args.pages, args.pairs, &untraced, &entries);
        fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let cheapest = entries.iter().find(|(contender, _)| *contender == Contender::NoRegions);
    let ratio = cheapest.and_then(|(_, scores)| scores.as_ref().ok()).and_then(|scores| scores.ratio());
    if let (Some(max), Some(ratio)) = (args.max_ratio, ratio)
        && ratio.median > max
    {
        bail!(
            "`cowtrace run --no-regions` has a median ratio of {:.3}, above --max-ratio {max}",
            ratio.median
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs every contender between two untraced runs, round after round; returns the untraced scores.
fn measure(bench: &Bench<'_>, rounds: u64, entries: &mut [(Contender, Result<Scores>)]) -> Result<Scores> {
    let mut untraced = Scores::default();
    let mut before = bench.run(Contender::Untraced)?;
    untraced.add(before, bench.pages, None);
    for round in 1..=rounds {
        eprintln!("bench: round {round} of {rounds}");
        // Another one begins each round, so that none always runs at the same place.
        if round > 1 {
            entries.rotate_left(1);
        }
        for (contender, scores) in entries.iter_mut() {
            let Ok(scores) = scores else { continue };
            let traced = bench
                .run(*contender)
                .with_context(|| format!("{} failed in round {round}", contender.name()))?;
            let after = bench.run(Contender::Untraced)?;
            untraced.add(after, bench.pages, None);
            // The mean of both neighbours takes out a drift of the machine's speed.
            scores.add(traced, bench.pages, Some((before + after) / 2.0));
            before = after;
        }
    }
    entries.sort_by_key(|(contender, _)| *contender);
    Ok(untraced)
}

/// A directory for what the contenders write, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("cowtrace-bench-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What root wrote there may be left behind only where sudo was needed; nothing depends on it.
        let _ = fs::remove_dir_all(&self.0);
        if self.0.exists()
            && let Ok(mut remove) = sys::as_root(&["rm".as_ref(), "-rf".as_ref(), self.0.as_os_str()])
        {
            let _ = sys::status(&mut remove);
        }
    }
}
