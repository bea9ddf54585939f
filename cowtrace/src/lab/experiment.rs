//! An experiment, and what it works with.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    Factory, Progress,
    claims::Claims,
    interruption::Interruption,
    report::{Curve, Figures},
    setting,
    size::Scale,
    story::{Focus, Story},
    workload::{Program, Service, Workload},
};

/// An experiment of the lab.
#[derive(Debug)]
pub struct Experiment {
    /// Short name, as on the command line.
    pub id: &'static str,
    /// File name of the source whose claims it checks, or `beyond the sources`.
    pub source: &'static str,
    /// What it is about, in a line.
    pub title: &'static str,
    /// What is done.
    pub(super) about: &'static str,
    /// What to expect.
    pub(super) expect: &'static str,
    /// What it teaches.
    pub(super) lesson: &'static str,
    /// The mapping that is shown.
    pub(super) focus: Focus,
    /// Set if its memory can be chosen.
    pub(super) size: Option<Scale>,
    pub(super) run: fn(&mut Lab<'_>) -> anyhow::Result<Outcome>,
}

/// What an experiment works with.
pub(super) struct Lab<'a> {
    factory: &'a mut Factory<'a>,
    progress: &'a mut dyn FnMut(Progress),
    interruption: Interruption,
    program: PathBuf,
    /// Bytes of memory to work with, for an experiment with a [`Scale`]; else 0.
    pub size_bytes: u64,
    /// Its claims.
    pub claims: Claims,
    /// Figures that are no claims.
    pub tables: Vec<Figures>,
    /// What is better seen than read.
    pub curves: Vec<Curve>,
}

/// What an experiment has to show.
#[derive(Default)]
pub(super) struct Shown {
    pub claims: Claims,
    pub tables: Vec<Figures>,
    pub curves: Vec<Curve>,
}

impl<'a> Lab<'a> {
    pub(super) fn new(
        program: &Path,
        factory: &'a mut Factory<'_>,
        progress: &'a mut dyn FnMut(Progress),
        interruption: &Interruption,
        experiment: &Experiment,
        size_bytes: Option<u64>,
    ) -> Lab<'a> {
        let default_bytes = experiment.size.map_or(0, |scale| scale.default_bytes);
        Lab {
            factory,
            progress,
            interruption: interruption.clone(),
            program: program.to_owned(),
            size_bytes: experiment.size.and(size_bytes).unwrap_or(default_bytes),
            claims: Claims::new(setting::unlike_the_sources()),
            tables: Vec::new(),
            curves: Vec::new(),
        }
    }

    /// Starts a step of the lab's workload under the tracer; its processes are called this, in the order of
    /// their roles.
    pub fn start(
        &mut self,
        step: &str,
        args: &[String],
        roles: &'static [&'static str],
    ) -> anyhow::Result<Workload> {
        let program = self.program.clone();
        self.start_program(&Program::step(&program, step, args, roles))
    }

    /// One sentence if the lab's program lies on a file system that keeps its files in memory only.
    pub fn files_in_memory(&self) -> Option<String> {
        super::setting::files_in_memory(&self.program)
    }

    /// Starts any program that keeps to the checkpoint protocol.
    pub fn start_program(&mut self, program: &Program<'_>) -> anyhow::Result<Workload> {
        Workload::start((self.factory)()?, program, self.interruption.clone())
    }

    /// Starts a program that knows nothing of the lab.
    pub fn start_service(&mut self, program: &Program<'_>) -> anyhow::Result<Service> {
        Service::start((self.factory)()?, program, self.interruption.clone())
    }

    /// Says what the experiment does now.
    pub fn progress(&mut self, step: impl Into<String>) {
        (self.progress)(Progress::Step(step.into()));
    }

    pub(super) fn take_shown(&mut self) -> Shown {
        Shown {
            claims: std::mem::take(&mut self.claims),
            tables: std::mem::take(&mut self.tables),
            curves: std::mem::take(&mut self.curves),
        }
    }
}

/// What an experiment brings back, besides its claims.
#[derive(Default)]
pub(super) struct Outcome {
    pub story: Story,
    /// The tracer's report.
    pub report: Value,
}
