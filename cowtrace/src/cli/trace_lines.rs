//! The lines of `cowtrace trace`: which faults have one, and where they are written.

use std::io::{self, Write};

use anyhow::Context as _;

use super::{
    Failure,
    output::{Format, Output},
};
use crate::{
    collect::{Finished, Session},
    export,
    model::{KIND_NAMES, TraceTotals, TracedFault, kind_name},
};

/// Bytes that are gathered before they are written.
const CHUNK_BYTES: usize = 64 << 10;

/// Which faults have a line.
pub(super) struct Wanted {
    /// Only those in mappings with this in their name.
    pub(super) region: Option<String>,
    /// Only those of functions with this in their name.
    pub(super) function: Option<String>,
    /// So many at most.
    pub(super) limit: Option<u64>,
}

impl Wanted {
    fn has(&self, fault: &TracedFault) -> bool {
        let matches = |text: &Option<String>, name: Option<&str>| {
            text.as_ref().is_none_or(|text| name.is_some_and(|name| name.contains(text.as_str())))
        };
        matches(&self.region, fault.region.as_ref().map(|region| &*region.name))
            && matches(&self.function, fault.function.as_deref())
    }
}

/// The lines, as they are written.
pub(super) struct Lines {
    writer: Box<dyn Write>,
    format: Format,
    /// With how long each took.
    times: bool,
    wanted: Wanted,
    /// By place in [`KIND_NAMES`].
    shown: [u64; KIND_NAMES.len()],
    filtered: u64,
    lost: u64,
    text: String,
    bytes: Vec<u8>,
    /// Why nothing is written any more.
    failed: Option<Failure>,
}

impl Lines {
    /// Lines to this destination.
    pub(super) fn new(output: Output, format: Format, times: bool, wanted: Wanted) -> Result<Lines, Failure> {
        let mut lines = Lines {
            writer: output.into_writer()?,
            format,
            times,
            wanted,
            shown: [0; KIND_NAMES.len()],
            filtered: 0,
            lost: 0,
            text: String::new(),
            bytes: Vec::new(),
            failed: None,
        };
        if format == Format::Human {
            export::trace_header(&mut lines.text, times);
        }
        Ok(lines)
    }

    /// Writes what was told since the last round; false: it is enough.
    pub(super) fn round(&mut self, session: &mut Session) -> bool {
        let events = session.take_events();
        let lost = session.lost_events().map_err(Failure::from);
        let written = lost.and_then(|lost| self.write(&events, lost));
        if let Err(failure) = written {
            self.failed.get_or_insert(failure);
        }
        self.failed.is_none() && !self.is_full()
    }

    /// Writes what came last, and the sums. A reader that has gone away is no failure.
    pub(super) fn finish(mut self, finished: &Finished) -> Result<(), Failure> {
        let written = match self.failed.take() {
            Some(failure) => Err(failure),
            None => self.write_rest(finished),
        };
        match written {
            Err(failure) if failure.is_broken_pipe() => return Ok(()),
            other => other?,
        }
        let mut summary = export::trace_summary(&self.totals(), &finished.report.lost);
        if !finished.report.command.is_empty() && finished.exit_status.is_none() {
            summary.truncate(summary.trim_end().len());
            summary.push_str("; the command runs on, untraced\n");
        }
        // Nobody may be there to read it.
        let _ = io::stderr().write_all(format!("cowtrace: {summary}").as_bytes());
        Ok(())
    }

    fn write_rest(&mut self, finished: &Finished) -> Result<(), Failure> {
        let report = &finished.report;
        self.write(&finished.events, finished.lost_events)?;
        if self.format == Format::Json {
            let counted = report.faults();
            let (totals, bytes) = (self.totals(), &mut self.bytes);
            export::trace_summary_json(bytes, &totals, &report.lost, &counted, &report.tracer)
                .context(JSON)?;
        }
        self.flush()
    }

    fn is_full(&self) -> bool {
        self.wanted.limit.is_some_and(|limit| self.shown.iter().sum::<u64>() >= limit)
    }

    fn totals(&self) -> TraceTotals {
        let shown = KIND_NAMES.into_iter().zip(self.shown).filter(|(_, faults)| *faults > 0).collect();
        TraceTotals { shown, filtered: self.filtered, lost: self.lost }
    }

    /// Writes faults, and tells how many more were lost, given how many were until now.
    fn write(&mut self, events: &[TracedFault], lost: u64) -> Result<(), Failure> {
        for fault in events {
            if self.is_full() {
                break;
            }
            if !self.wanted.has(fault) {
                self.filtered += 1;
                continue;
            }
            let name = kind_name(fault.kind);
            if let Some(place) = KIND_NAMES.iter().position(|known| *known == name) {
                self.shown[place] += 1;
            }
            match self.format {
                Format::Human => export::trace_line(&mut self.text, fault, self.times),
                Format::Json => export::trace_json(&mut self.bytes, fault, self.times).context(JSON)?,
            }
            if self.text.len() + self.bytes.len() >= CHUNK_BYTES {
                self.flush()?;
            }
        }
        let more = lost.saturating_sub(self.lost);
        self.lost = self.lost.max(lost);
        match self.format {
            _ if more == 0 => {}
            Format::Human => export::trace_lost_line(&mut self.text, more),
            Format::Json => export::trace_lost_json(&mut self.bytes, more).context(JSON)?,
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let written = self.writer.write_all(self.text.as_bytes());
        let written = written.and_then(|()| self.writer.write_all(&self.bytes));
        self.text.clear();
        self.bytes.clear();
        written.and_then(|()| self.writer.flush()).context("cannot write the lines").map_err(Failure::failed)
    }
}

const JSON: &str = "cannot make the JSON";
