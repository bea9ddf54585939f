//! Options that ask for the user stacks of copies, and the files that these go to.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use super::{Failure, output::create};
use crate::{export, model::Report};

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
    folded: Option<(File, PathBuf)>,
    flamegraph: Option<(File, PathBuf)>,
}

impl StackArgs {
    /// Whether stacks are to be counted.
    pub(super) fn wanted(&self) -> bool {
        self.stacks || self.files.wanted()
    }

    /// Creates the files.
    pub(super) fn open(&self) -> Result<StackFiles, Failure> {
        self.files.open()
    }
}

impl StackFileArgs {
    /// Whether there is a file to be written.
    pub(super) fn wanted(&self) -> bool {
        self.folded.is_some() || self.flamegraph.is_some()
    }

    /// Creates the files.
    pub(super) fn open(&self) -> Result<StackFiles, Failure> {
        Ok(StackFiles {
            folded: self.folded.as_deref().map(create).transpose()?,
            flamegraph: self.flamegraph.as_deref().map(create).transpose()?,
        })
    }
}

impl StackFiles {
    /// Writes them; `report` has stacks.
    pub(super) fn write(self, report: &Report) -> Result<(), Failure> {
        let Some(stacks) = &report.stacks else { return Ok(()) };
        if let Some((file, path)) = self.folded {
            write(file, &path, export::folded(stacks).as_bytes())?;
        }
        if let Some((file, path)) = self.flamegraph {
            let title = format!("Pages copied on write: {}", export::quote(&report.command));
            let svg = export::flamegraph(stacks, &title)
                .with_context(|| format!("cannot draw the flame graph for {}", path.display()))
                .map_err(Failure::failed)?;
            write(file, &path, &svg)?;
        }
        Ok(())
    }
}

fn write(mut file: File, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    file.write_all(bytes)
        .with_context(|| format!("cannot write the stacks to {}", path.display()))
        .map_err(Failure::failed)
}
