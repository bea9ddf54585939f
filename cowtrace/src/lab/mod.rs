//! The lab: experiments with real processes, traced live, whose claims can fail.

pub mod claims;
pub mod report;

mod article_000;
mod article_001;
mod article_002;
mod article_003;
mod article_004;
mod beyond;
mod experiment;
mod interruption;
mod setting;
mod size;
mod statistics;
mod story;
#[cfg(test)]
mod tests;
mod workload;

use std::{ffi::OsString, os::fd::RawFd, path::Path, time::Instant};

use serde_json::Value;

use crate::{
    collect::{Interrupts, SessionError},
    model::{Counts, FamilyEvent},
};
use claims::{Test, Verdict};
pub use experiment::Experiment;
use experiment::{Lab, Outcome};
pub use interruption::Interrupted;
use interruption::Interruption;
pub use report::LabReport;
use report::{ExperimentReport, SCHEMA};
pub use size::{BadSize, Bytes, parse_size};

/// What the lab needs of a tracer: start a program under it, read the events so far, and the report at the
/// end.
pub trait LabTracer {
    /// Starts the program, traced from its first instruction; the descriptors in `inherit` (number here,
    /// number in the program) stay open in it. Returns its process id.
    ///
    /// # Errors
    /// The program cannot be started.
    fn spawn(&mut self, program: &Path, args: &[OsString], inherit: &[(RawFd, RawFd)])
    -> anyhow::Result<u32>;

    /// Takes in what the kernel has reported, so that nothing overflows while processes run.
    ///
    /// # Errors
    /// The kernel's maps cannot be read.
    fn poll(&mut self) -> anyhow::Result<()>;

    /// All events since the last call. Every traced process must be quiescent (blocked) when this is called;
    /// what the kernel still holds back is included.
    ///
    /// # Errors
    /// The kernel's maps cannot be read.
    fn events(&mut self) -> anyhow::Result<Vec<FamilyEvent>>;

    /// Counts of a process so far, by kind.
    ///
    /// # Errors
    /// The kernel's maps cannot be read, or do not know the process.
    fn counts(&mut self, pid: u32) -> anyhow::Result<Counts>;

    /// Ends the session (all processes are gone or will be left alone) and gives the report as JSON.
    ///
    /// # Errors
    /// The report cannot be made.
    fn finish(self: Box<Self>) -> anyhow::Result<Value>;
}

/// Makes a tracer; each experiment has its own.
pub type Factory<'a> = dyn FnMut() -> anyhow::Result<Box<dyn LabTracer>> + 'a;

/// What to run.
#[derive(Default)]
pub struct LabOptions {
    /// Ids of the experiments; none: all.
    pub ids: Vec<String>,
    /// Bytes, for the experiments whose memory can be chosen.
    pub size: Option<u64>,
    /// What may stop the lab.
    pub interrupts: Option<Interrupts>,
}

/// How far a run of the lab has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An experiment begins: which of how many.
    Started {
        /// From 0.
        index: usize,
        /// Experiments in all.
        total: usize,
        /// The experiment.
        id: &'static str,
        /// Its title.
        title: &'static str,
    },
    /// What the experiment does now, if it takes its time.
    Step(String),
    /// It is over.
    Finished {
        /// The experiment.
        id: &'static str,
        /// Claims that hold.
        held: usize,
        /// Claims in all.
        claims: usize,
        /// Pages that the ledger could not explain.
        residual_pages: u64,
    },
}

/// All experiments, in the order in which they are run.
pub fn experiments() -> impl Iterator<Item = &'static Experiment> {
    article_000::EXPERIMENTS
        .iter()
        .chain(article_001::experiments())
        .chain(article_002::experiments())
        .chain(article_003::experiments())
        .chain(article_004::experiments())
        .chain(beyond::experiments())
}

/// An experiment that the lab does not have.
#[derive(Debug, thiserror::Error)]
#[error("the lab has no experiment '{id}'; `cowtrace lab --list` names all")]
pub struct UnknownExperiment {
    /// What was asked for.
    pub id: String,
}

/// The experiments with these ids, in this order; all of them if there is none.
///
/// # Errors
/// One does not exist.
pub fn select(ids: &[String]) -> Result<Vec<&'static Experiment>, UnknownExperiment> {
    if ids.is_empty() {
        return Ok(experiments().collect());
    }
    ids.iter()
        .map(|id| {
            experiments().find(|known| known.id == id).ok_or_else(|| UnknownExperiment { id: id.clone() })
        })
        .collect()
}

/// Whether these experiments can be run with this size.
///
/// # Errors
/// An unknown id ([`UnknownExperiment`]), or a size that cannot be used ([`BadSize`]).
pub fn check(ids: &[String], size: Option<u64>) -> anyhow::Result<()> {
    Ok(size::check(&select(ids)?, size)?)
}

/// Runs experiments. `kernel` and `backend` of the report are left to the caller. A signal ends the lab after the
/// experiments that are whole by then ([`LabReport::interrupted_by`]). An experiment that cannot be run to its end is
/// in the report with a claim that says so, and the others go on.
///
/// # Errors
/// An unknown id ([`UnknownExperiment`]), a size that cannot be used ([`BadSize`]), or a tracer that cannot work here
/// ([`SessionError`]).
pub fn run(
    options: LabOptions,
    factory: &mut Factory<'_>,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<LabReport> {
    check(&options.ids, options.size)?;
    let selected = select(&options.ids)?;
    let total = selected.len();
    let program = workload::find_program()?;
    let interruption = Interruption::new(options.interrupts);
    let mut report = LabReport {
        schema: SCHEMA,
        kernel: Value::Null,
        backend: Value::Null,
        interrupted_by: None,
        selected: total,
        experiments: Vec::with_capacity(total),
    };
    for (index, experiment) in selected.into_iter().enumerate() {
        progress(Progress::Started { index, total, id: experiment.id, title: experiment.title });
        let mut lab = Lab::new(&program, factory, progress, &interruption, experiment, options.size);
        let done = run_one(experiment, &mut lab);
        let stopped = interruption.check().err();
        let done = match done {
            // Ctrl-C ends the processes as well: what is not as it should be then is so because of it.
            Ok(done) if stopped.is_none() || done.as_it_should() => Some(done),
            Err(error) if stopped.is_none() && error.is::<SessionError>() => return Err(error),
            Err(error) if stopped.is_none() => Some(cut_short(experiment, &mut lab, &error)),
            _ => None,
        };
        if let Some(done) = done {
            progress(Progress::Finished {
                id: experiment.id,
                held: done.count(Verdict::Holds),
                claims: done.claims.len(),
                residual_pages: done.residual_pages(),
            });
            report.experiments.push(done);
        }
        if let Some(Interrupted { signal }) = stopped {
            report.interrupted_by = (report.experiments.len() < total).then_some(signal);
            break;
        }
    }
    Ok(report)
}

fn run_one(experiment: &Experiment, lab: &mut Lab<'_>) -> anyhow::Result<ExperimentReport> {
    let started = Instant::now();
    let outcome = (experiment.run)(lab)?;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(ExperimentReport { duration_ms, ..tell(experiment, lab, outcome) })
}

/// An experiment that failed: what it has shown until then, and why it went no further.
fn cut_short(experiment: &Experiment, lab: &mut Lab<'_>, error: &anyhow::Error) -> ExperimentReport {
    let why = format!("it could not be run: {error:#}");
    lab.claims.check(Test::equal("the experiment runs to its end", 1u64, Some(0)).unit("runs").because(why));
    tell(experiment, lab, Outcome::default())
}

fn tell(experiment: &Experiment, lab: &mut Lab<'_>, outcome: Outcome) -> ExperimentReport {
    let Outcome { story, report } = outcome;
    let shown = lab.take_shown();
    ExperimentReport {
        id: experiment.id,
        source: experiment.source,
        title: experiment.title,
        about: experiment.about,
        expect: experiment.expect,
        lesson: experiment.lesson,
        duration_ms: 0,
        size_bytes: experiment.size.map(|_| lab.size_bytes),
        claims: shown.claims.into_list(),
        tables: shown.tables,
        curves: shown.curves,
        ledger: story.ledger(),
        focus: experiment.focus.label(),
        checkpoints: story.checkpoints_report(experiment.focus),
        report,
    }
}
