//! `cowtrace lab`: the experiments, with a verdict on each claim.

mod progress;
mod reports;

use std::{cell::RefCell, ffi::OsString, os::fd::RawFd, path::Path, rc::Rc};

use anyhow::Context as _;
use clap::{
    Args,
    builder::{PathBufValueParser, TypedValueParser as _},
};
use serde_json::Value;

use super::{
    Failure, Globals,
    out_file::refuse_same,
    output::{Format, HumanStream, Output, OutputArgs, print},
    tracer::prepare,
};
use crate::{
    collect::{Launch, Session, SessionOptions},
    export::{self, lab as forms},
    kernel::running_kernel,
    lab::{self, Experiment, LabOptions, LabTracer},
    model::{Counts, FamilyEvent},
    probe::{BackendChoice, DEFAULT_MAX_TASKS, Probes, keep_kernel},
};
use progress::ProgressLine;
use reports::{ReportPath, Reports};

/// Options of `lab`.
#[derive(Args, Debug)]
pub(super) struct LabArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Write a page (.html) or a Markdown document (.md) with charts to FILE as well; may be repeated
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(ReportPath::parse))]
    report: Vec<ReportPath>,
    /// Which kernel hooks to use
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// List the experiments and leave
    #[arg(long)]
    list: bool,
    /// Memory of the experiments that can do with any, such as 256M or 4G
    #[arg(long, value_name = "BYTES", value_parser = lab::parse_size)]
    size: Option<u64>,
    /// Experiments to run (default: all)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// Runs the experiments; the status tells whether everything came out as it should.
pub(super) fn run(args: &LabArgs, globals: Globals) -> Result<u8, Failure> {
    let selected = lab::select(&args.ids).map_err(|unknown| Failure::usage(unknown.into()))?;
    if args.list {
        print(list(&selected).as_bytes())?;
        return Ok(0);
    }
    lab::check(&args.ids, args.size).map_err(Failure::usage)?;
    refuse_same(args.output.file().into_iter().chain(args.report.iter().map(ReportPath::path)), &[])?;
    let reports = Reports::create(&args.report)?;
    let output = Output::open(&args.output, HumanStream::Stdout)?;
    let interrupts = prepare()?;
    let options = SessionOptions {
        log_level: globals.kernel_log_level(),
        page_log: true,
        ..SessionOptions::new(args.backend, DEFAULT_MAX_TASKS)
    };
    let _kernel = keep_kernel(args.backend);
    let kept = Kept::default();
    let mut factory = || -> anyhow::Result<Box<dyn LabTracer>> {
        Ok(Box::new(LiveTracer { options: options.clone(), session: None, kept: Rc::clone(&kept) }))
    };
    let lab_options = LabOptions { ids: args.ids.clone(), size: args.size, interrupts: Some(interrupts) };
    let mut line = ProgressLine::new();
    let ran = lab::run(lab_options, &mut factory, &mut |progress| line.show(&progress));
    // Before anything else is said.
    drop(line);
    let mut report = ran?;
    report.kernel = serde_json::to_value(running_kernel()).context("cannot describe the kernel")?;
    // An experiment for which something is missing here has traced nothing.
    let backend = report.experiments.iter().find_map(|experiment| experiment.report.get("backend"));
    report.backend = backend.cloned().unwrap_or_default();
    let bytes = match args.output.format {
        Format::Json => export::json(&report).context("cannot make the JSON")?,
        Format::Human => forms::text(&report, &output.style(globals)).into_bytes(),
    };
    let status = match (&report.interrupted_by, report.as_it_should()) {
        (Some(signal), _) => 128 + *signal as u8,
        (None, held) => u8::from(!held),
    };
    let mut failures: Vec<Failure> = output.write(&bytes).err().into_iter().collect();
    failures.extend(reports.write(&report));
    Failure::of_all(failures)?;
    Ok(status)
}

/// Id, source and title of each experiment, in columns.
fn list(experiments: &[&Experiment]) -> String {
    let width = |text: fn(&Experiment) -> &str| experiments.iter().map(|e| text(e).len()).max().unwrap_or(0);
    let (id, source) = (width(|e| e.id), width(|e| e.source));
    experiments.iter().map(|e| format!("{:<id$}  {:<source$}  {}\n", e.id, e.source, e.title)).collect()
}

/// The real tracer behind the lab.
struct LiveTracer {
    options: SessionOptions,
    session: Option<Session>,
    kept: Kept,
}

/// The programs, between two experiments: an experiment that fails takes them with it.
type Kept = Rc<RefCell<Option<Probes>>>;

impl LiveTracer {
    fn session(&mut self) -> anyhow::Result<&mut Session> {
        self.session.as_mut().context("the experiment has not started its program")
    }
}

impl LabTracer for LiveTracer {
    fn spawn(
        &mut self,
        program: &Path,
        args: &[OsString],
        inherit: &[(RawFd, RawFd)],
    ) -> anyhow::Result<u32> {
        let command = std::iter::once(program.as_os_str().to_owned()).chain(args.iter().cloned()).collect();
        let launch = Launch { command, inherit: inherit.to_vec() };
        let kept = self.kept.take();
        let session = match kept {
            Some(probes) => Session::start_under(probes, &launch, &self.options)?,
            None => Session::start(&launch, &self.options)?,
        };
        let root = self.session.insert(session).root();
        root.map(|root| root.as_raw().unsigned_abs()).context("there is no command")
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        Ok(self.session()?.poll()?)
    }

    fn events(&mut self) -> anyhow::Result<Vec<FamilyEvent>> {
        Ok(self.session()?.family_events()?)
    }

    fn counts(&mut self, pid: u32) -> anyhow::Result<Counts> {
        Ok(self.session()?.counts(pid)?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Value> {
        let session = self.session.take().context("the experiment has not started its program")?;
        let status = session.reap();
        let (report, probes) = session.finish_and_keep(status)?;
        *self.kept.borrow_mut() = Some(probes);
        serde_json::to_value(report).context("cannot make the JSON")
    }
}
