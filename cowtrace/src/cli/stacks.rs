//! Options that ask for the user stacks of copies, and the files that these go to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Failure, out_file::OutFile};
use crate::{export, model::Report};

/// For what is said when a file cannot be written.
const WHAT: &str = "the stacks";

/// Options of commands that trace.
#[derive(Args, Debug)]
pub(super) struct StackArgs {
    /// Tell which code made the copies: count them by user stack (implied by --folded and --flamegraph)
    #[arg(long)]
    stacks: bool,
    #[command(flatten)]
    files: StackFileArgs,
}

/// Options of commands that have stacks.
#[derive(Args, Debug)]
pub(super) struct StackFileArgs {
    /// Write the stacks to FILE, folded (comm;function;function pages), as flame-graph programs take them
    #[arg(long, value_name = "FILE")]
    folded: Option<PathBuf>,
    /// Write the stacks to FILE as a flame graph in SVG
    #[arg(long, value_name = "FILE")]
    flamegraph: Option<PathBuf>,
}

/// The files, open before anything is traced.
pub(super) struct StackFiles {
    folded: Option<OutFile>,
    flamegraph: Option<OutFile>,
}

impl StackArgs {
    /// Whether stacks are to be counted.
    pub(super) fn wanted(&self) -> bool {
        self.stacks || self.files.wanted()
    }

    /// The files.
    pub(super) fn files(&self) -> &StackFileArgs {
        &self.files
    }
}

impl StackFileArgs {
    /// Whether there is a file to be written.
    pub(super) fn wanted(&self) -> bool {
        self.folded.is_some() || self.flamegraph.is_some()
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &Path> {
        [&self.folded, &self.flamegraph].into_iter().filter_map(|file| file.as_deref())
    }

    /// Opens the files.
    pub(super) fn open(&self) -> Result<StackFiles, Failure> {
        Ok(StackFiles {
            folded: self.folded.as_deref().map(OutFile::open).transpose()?,
            flamegraph: self.flamegraph.as_deref().map(OutFile::open).transpose()?,
        })
    }
}

impl StackFiles {
    /// Writes them; `report` has stacks.
    pub(super) fn write(self, report: &Report) -> Result<(), Failure> {
        let Some(stacks) = &report.stacks else { return Ok(()) };
        if let Some(file) = self.folded {
            file.write(WHAT, export::folded(stacks).as_bytes())?;
        }
        if let Some(file) = self.flamegraph {
            let title = format!("Pages copied on write: {}", export::quote(&report.command));
            let svg = export::flamegraph(stacks, &title)
                .context("cannot draw the flame graph")
                .map_err(Failure::failed)?;
            file.write(WHAT, &svg)?;
        }
        Ok(())
    }
}
