//! Where a report goes, opened before anything is traced.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Failure, Globals, out_file::OutFile, text};
use crate::{
    export::{self, Style},
    model::Report,
};

/// Options of all commands that report.
#[derive(Args, Debug)]
pub(super) struct OutputArgs {
    /// For people, or for programs
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// Write the report to FILE
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

impl OutputArgs {
    /// The file's name.
    pub(super) fn file(&self) -> Option<&Path> {
        self.output.as_deref()
    }
}

/// Options of commands that write a report of what was traced.
#[derive(Args, Debug)]
pub(super) struct ReportingArgs {
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(flatten)]
    top: TopArgs,
}

impl ReportingArgs {
    /// How the report is written.
    pub(super) fn form(&self) -> ReportForm {
        self.top.form(self.output.format)
    }
}

/// How much of a report people are shown.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct TopArgs {
    /// Show at most N processes (0: all); JSON always has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

impl TopArgs {
    /// How a report is written in this format.
    pub(super) fn form(self, format: Format) -> ReportForm {
        ReportForm { format, top: self.top }
    }
}

/// How a report of what was traced is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportForm {
    format: Format,
    /// Processes that people are shown; 0: all.
    top: usize,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people
    #[default]
    Human,
    /// The JSON contract
    Json,
}

/// The stream for a report that is for people and has no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HumanStream {
    /// For commands whose report is their output.
    Stdout,
    /// For commands that run another one, whose output must stay clean.
    Stderr,
}

/// An open destination.
pub(super) enum Output {
    File(OutFile),
    Stdout,
    Stderr,
}

impl Output {
    /// Opens the destination; a file that cannot be created fails here, before anything runs.
    pub(super) fn open(args: &OutputArgs, human: HumanStream) -> Result<Output, Failure> {
        match (&args.output, args.format, human) {
            (Some(path), _, _) => OutFile::open(path).map(Output::File),
            (None, Format::Human, HumanStream::Stderr) => Ok(Output::Stderr),
            _ => Ok(Output::Stdout),
        }
    }

    /// Whether the report goes where the traced command would write as well.
    pub(super) fn is_stdout(&self) -> bool {
        matches!(self, Output::Stdout)
    }

    /// For what is written bit by bit.
    pub(super) fn into_writer(self) -> Result<Box<dyn Write>, Failure> {
        Ok(match self {
            Output::File(file) => Box::new(file.begin()?),
            Output::Stdout => Box::new(io::stdout()),
            Output::Stderr => Box::new(io::stderr()),
        })
    }

    /// Colour and width for people.
    pub(super) fn style(&self, globals: Globals) -> Style {
        match self {
            Output::File(file) => text::style(globals.color, file.file()),
            Output::Stdout => text::style(globals.color, &io::stdout()),
            Output::Stderr => text::style(globals.color, &io::stderr()),
        }
    }

    /// Writes a report of what was traced.
    pub(super) fn write_report(
        self,
        report: &Report,
        form: &ReportForm,
        globals: Globals,
    ) -> Result<(), Failure> {
        let bytes = match form.format {
            Format::Json => export::json(report).context("cannot make the JSON")?,
            Format::Human => export::human(report, &self.style(globals), form.top).into_bytes(),
        };
        self.write(&bytes)
    }

    /// Writes it. The status of what was traced counts, whether somebody reads the report or not: a reader that
    /// is gone is no failure.
    pub(super) fn write(self, report: &[u8]) -> Result<(), Failure> {
        self.write_whole(report)
            .or_else(|failure| if failure.is_broken_pipe() { Ok(()) } else { Err(failure) })
    }

    fn write_whole(self, report: &[u8]) -> Result<(), Failure> {
        match self {
            Output::File(file) => file.write("the report", report),
            Output::Stdout => print(report),
            Output::Stderr => io::stderr().write_all(report).map_err(|e| Failure::failed(e.into())),
        }
    }
}

/// Writes to standard output.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output")
        .map_err(Failure::failed)
}
