//! Options that ask for counts page by page, and the picture of them.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};

use super::{Failure, out_file::OutFile, tracer::at_least_one};
use crate::{
    export,
    model::{DEFAULT_MAX_PAGES, Report},
};

/// Options of commands that trace.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("by_page").args(["pages", "map"]).multiple(true)))]
pub(super) struct PageArgs {
    /// Tell which pages were copied, how often each, and why those that were copied more than once
    #[arg(long, conflicts_with = "no_regions")]
    pages: bool,
    /// Draw the pages as a map of each address space, and write it to FILE as SVG (implies --pages)
    #[arg(long, value_name = "FILE", conflicts_with = "no_regions")]
    map: Option<PathBuf>,
    /// Count at most N pages one by one, at 16 bytes each at most; more are counted as lost
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PAGES, requires = "by_page", value_parser = at_least_one::<u64>)]
    max_pages: u64,
}

/// The file, open before anything is traced.
pub(super) struct PageFile(Option<OutFile>);

impl PageArgs {
    /// How many pages are to be counted, if any.
    pub(super) fn wanted(&self) -> Option<u64> {
        (self.pages || self.map.is_some()).then_some(self.max_pages)
    }

    /// Its name.
    pub(super) fn file(&self) -> Option<&Path> {
        self.map.as_deref()
    }

    /// Opens the file.
    pub(super) fn open(&self) -> Result<PageFile, Failure> {
        Ok(PageFile(self.file().map(OutFile::open).transpose()?))
    }
}

impl PageFile {
    /// Draws the map of a report with pages.
    pub(super) fn write(self, report: &Report) -> Result<(), Failure> {
        let Some(file) = self.0 else { return Ok(()) };
        file.write("the map", export::page_picture(report).as_bytes())
    }
}
