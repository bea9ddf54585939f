//! What `run` and `attach` share: what is asked for besides counts, and the report at the end.

use clap::Args;

use super::{
    Failure, Globals,
    forecast::{ForecastArgs, Teller},
    out_file::refuse_same,
    output::{HumanStream, Output, ReportingArgs},
    pages::PageArgs,
    stacks::StackArgs,
    tracer::{EndedArgs, LatencyArgs, TracingArgs, block_on, prepare},
};
use crate::collect::{Session, SessionError, SessionOptions};

/// Options of commands that trace until an end, and then report.
#[derive(Args, Debug)]
pub(super) struct ReportedArgs {
    #[command(flatten)]
    report: ReportingArgs,
    #[command(flatten)]
    stacks: StackArgs,
    #[command(flatten)]
    forecast: ForecastArgs,
    #[command(flatten)]
    pages: PageArgs,
    #[command(flatten)]
    latency: LatencyArgs,
    #[command(flatten)]
    ended: EndedArgs,
    #[command(flatten)]
    tracing: TracingArgs,
}

impl ReportedArgs {
    /// Traces whom `begin` begins with, until the end of its descendants if `follow`, and reports; `human`: where to, if it is
    /// for people. The result is the command's exit status, if there is one.
    pub(super) fn trace(
        &self,
        globals: Globals,
        human: HumanStream,
        follow: bool,
        begin: impl FnOnce(&SessionOptions, &Output) -> Result<Session, SessionError>,
    ) -> Result<u8, Failure> {
        let files = self.stacks.files();
        let others = files.names().chain(self.pages.file());
        refuse_same(self.report.output.file().into_iter().chain(others), &[])?;
        // A file that cannot be created fails before anything is traced.
        let output = Output::open(&self.report.output, human)?;
        let stack_files = files.open()?;
        let page_file = self.pages.open()?;
        let interrupts = prepare()?;
        let options = self.options(globals);
        let mut teller = Teller::default();
        let mut each_round = |session: &mut Session| teller.tell(session);
        let finished = block_on(async {
            begin(&options, &output)?.run_with(follow, interrupts, &mut each_round).await
        })?;
        output.write_report(&finished.report, &self.report.form(), globals)?;
        stack_files.write(&finished.report)?;
        page_file.write(&finished.report)?;
        Ok(finished.status())
    }

    fn options(&self, globals: Globals) -> SessionOptions {
        SessionOptions {
            stacks: self.stacks.wanted(),
            forecast: self.forecast.lifetime(),
            pages: self.pages.wanted(),
            latency: self.latency.latency,
            max_ended: self.ended.most(),
            ..self.tracing.session(globals)
        }
    }
}
