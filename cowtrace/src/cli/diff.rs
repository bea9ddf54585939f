//! `cowtrace diff`: what has become more or less from one run to another.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use super::{
    Failure, Globals,
    out_file::refuse_same,
    output::{Format, HumanStream, Output, OutputArgs},
};
use crate::{diff::diff, export, model::Report, recording};

/// Options of `diff`.
#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Show at most N processes, and N mappings (0: all); JSON always has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// The run before: a recording, or a report in JSON
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The run after it
    #[arg(value_name = "B")]
    b: PathBuf,
}

/// Compares; the status is 0 whether anything differs or not.
pub(super) fn run(args: &DiffArgs, globals: Globals) -> Result<u8, Failure> {
    let (a, b) = (load(&args.a)?, load(&args.b)?);
    refuse_same(args.output.file(), &[&args.a, &args.b])?;
    let output = Output::open(&args.output, HumanStream::Stdout)?;
    let (a_name, b_name) = (args.a.to_string_lossy(), args.b.to_string_lossy());
    let compared = diff((&a_name, &a), (&b_name, &b));
    let bytes = match args.output.format {
        Format::Json => export::json(&compared).context("cannot make the JSON")?,
        Format::Human => export::diff(&compared, &output.style(globals), args.top).into_bytes(),
    };
    output.write(&bytes)?;
    Ok(0)
}

/// A report in JSON begins with a brace; all else must be a recording.
fn load(path: &Path) -> Result<Report, Failure> {
    if !is_json(path) {
        return recording::read(path).map_err(|error| Failure::failed(error.into()));
    }
    let cannot = || format!("cannot read {} as a report", path.display());
    let file = File::open(path).with_context(cannot).map_err(Failure::failed)?;
    serde_json::from_reader(BufReader::new(file)).with_context(cannot).map_err(Failure::failed)
}

/// What cannot be read is left to the reader of recordings, which says why.
fn is_json(path: &Path) -> bool {
    let mut head = Vec::new();
    path.is_file()
        && File::open(path).is_ok_and(|file| file.take(64).read_to_end(&mut head).is_ok())
        && head.trim_ascii_start().starts_with(b"{")
}
