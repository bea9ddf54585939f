//! The lab: experiments with real processes, traced live, whose claims can fail.

pub mod claims;
pub mod report;

mod article_000;
mod setting;
mod story;
#[cfg(test)]
mod tests;
mod workload;

use std::{
    ffi::OsString,
    os::fd::RawFd,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::Value;

use crate::model::{Counts, FamilyEvent};
use claims::{Claims, Verdict};
pub use report::LabReport;
use report::{ExperimentReport, SCHEMA};
use story::Story;
use workload::Workload;

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

/// An experiment of the lab.
#[derive(Debug)]
pub struct Experiment {
    /// Short name, as on the command line.
    pub id: &'static str,
    /// File name of the source whose claims it checks.
    pub source: &'static str,
    /// What it is about, in a line.
    pub title: &'static str,
    /// What is done.
    about: &'static str,
    /// What to expect.
    expect: &'static str,
    /// What it teaches.
    lesson: &'static str,
    /// The mapping that is shown.
    focus: &'static str,
    run: fn(&mut Lab<'_>) -> anyhow::Result<Outcome>,
}

/// What an experiment works with.
struct Lab<'a> {
    factory: &'a mut Factory<'a>,
    program: PathBuf,
    claims: Claims,
}

impl Lab<'_> {
    /// Starts a step of the workload, with this many processes by the end, under a tracer of its own.
    fn start(&mut self, step: &str, processes: usize) -> anyhow::Result<Workload> {
        Workload::start((self.factory)()?, &self.program, step, processes)
    }
}

/// What an experiment brings back, besides its claims.
struct Outcome {
    story: Story,
    report: Value,
}

/// How far a run of the lab has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    article_000::EXPERIMENTS.iter()
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

/// Runs the experiments with these ids, or all. `kernel` and `backend` of the report are left to the caller.
///
/// # Errors
/// An unknown id ([`UnknownExperiment`]), or an experiment that could not be run to its end.
pub fn run(
    ids: &[String],
    factory: &mut Factory<'_>,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<LabReport> {
    let selected = select(ids)?;
    let total = selected.len();
    let program = workload::find_program()?;
    let mut experiments = Vec::with_capacity(total);
    for (index, experiment) in selected.into_iter().enumerate() {
        progress(Progress::Started { index, total, id: experiment.id, title: experiment.title });
        let report = run_one(experiment, factory, &program)
            .with_context(|| format!("experiment {} could not be run", experiment.id))?;
        progress(Progress::Finished {
            id: experiment.id,
            held: report.count(Verdict::Holds),
            claims: report.claims.len(),
            residual_pages: report.residual_pages(),
        });
        experiments.push(report);
    }
    Ok(LabReport { schema: SCHEMA, kernel: Value::Null, backend: Value::Null, experiments })
}

fn run_one(
    experiment: &Experiment,
    factory: &mut Factory<'_>,
    program: &Path,
) -> anyhow::Result<ExperimentReport> {
    let mut lab = Lab {
        factory: &mut || factory(),
        program: program.to_owned(),
        claims: Claims::new(setting::unlike_the_sources()),
    };
    let outcome = (experiment.run)(&mut lab)?;
    let claims = std::mem::take(&mut lab.claims).into_list();
    Ok(ExperimentReport {
        id: experiment.id,
        source: experiment.source,
        title: experiment.title,
        about: experiment.about,
        expect: experiment.expect,
        lesson: experiment.lesson,
        claims,
        ledger: outcome.story.ledger(),
        focus: experiment.focus,
        checkpoints: outcome.story.checkpoints_report(experiment.focus),
        report: outcome.report,
    })
}
