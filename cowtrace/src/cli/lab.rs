//! `cowtrace lab`: the experiments, with a verdict on each claim.

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    os::fd::RawFd,
    path::Path,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::{
    Failure, Globals,
    output::{Format, HumanStream, Output, OutputArgs, print},
};
use crate::{
    collect::{Interrupts, Launch, Session, SessionOptions},
    export::lab_human,
    kernel::running_kernel,
    lab::{self, LabOptions, LabTracer, Progress},
    model::{Counts, FamilyEvent},
    probe::{BackendChoice, DEFAULT_MAX_TASKS, preflight},
};

/// Options of `lab`.
#[derive(Args, Debug)]
pub(super) struct LabArgs {
    #[command(flatten)]
    output: OutputArgs,
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
        let lines = selected.iter().map(|e| format!("{:<16} {:<26} {}\n", e.id, e.source, e.title));
        print(lines.collect::<String>().as_bytes())?;
        return Ok(0);
    }
    lab::check(&args.ids, args.size).map_err(Failure::usage)?;
    let output = Output::open(&args.output, HumanStream::Stdout)?;
    preflight()?;
    let interrupts = Interrupts::watch().context("cannot watch for signals").map_err(Failure::failed)?;
    let options = SessionOptions {
        regions: true,
        backend: args.backend,
        max_tasks: DEFAULT_MAX_TASKS,
        log_level: globals.kernel_log_level(),
        page_log: true,
    };
    let mut factory = || -> anyhow::Result<Box<dyn LabTracer>> {
        Ok(Box::new(LiveTracer { options: options.clone(), session: None }))
    };
    let lab_options = LabOptions { ids: args.ids.clone(), size: args.size, interrupts: Some(interrupts) };
    let mut report = lab::run(lab_options, &mut factory, &mut show_progress)?;
    report.kernel = serde_json::to_value(running_kernel()).context("cannot describe the kernel")?;
    // An experiment for which something is missing here has traced nothing.
    let backend = report.experiments.iter().find_map(|experiment| experiment.report.get("backend"));
    report.backend = backend.cloned().unwrap_or_default();
    let bytes = match args.output.format {
        Format::Json => {
            let mut json = serde_json::to_vec_pretty(&report).context("cannot make the JSON")?;
            json.push(b'\n');
            json
        }
        Format::Human => lab_human::render(&report, &output.style(globals)).into_bytes(),
    };
    let status = match (&report.interrupted_by, report.as_it_should()) {
        (Some(signal), _) => 128 + *signal as u8,
        (None, held) => u8::from(!held),
    };
    output.write(&bytes)?;
    Ok(status)
}

/// One line that is written over, on a terminal only.
fn show_progress(progress: Progress) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let line = match progress {
        Progress::Started { index, total, id, title } => {
            format!("\r\x1b[K[{}/{total}] {id}: {title}", index + 1)
        }
        Progress::Step(step) => format!("\r\x1b[K      {step}"),
        Progress::Finished { .. } => "\r\x1b[K".to_owned(),
    };
    // Progress that cannot be shown is no reason to stop.
    let _ = stderr.write_all(line.as_bytes());
}

/// The real tracer behind the lab.
struct LiveTracer {
    options: SessionOptions,
    session: Option<Session>,
}

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
        let session = Session::start(&Launch { command, inherit: inherit.to_vec() }, &self.options)?;
        Ok(self.session.insert(session).root().as_raw().unsigned_abs())
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
        let session = self.session()?;
        let status = session.reap();
        let report = session.finish(status)?;
        serde_json::to_value(report).context("cannot make the JSON")
    }
}
