//! Runs the command under the tracer, with the oracles around it.

use std::time::Duration;

use super::{
    accounting::Accounting,
    explain::Run,
    judge::{judge, totals},
    ksm,
    report::{Finding, Oracle, OracleName, ProcessVerdict, VERIFY_SCHEMA, Verdict, VerifyReport},
    smaps::{self, Readings},
};
use crate::{
    collect::{Finished, Interrupts, Launch, Session, SessionError, SessionOptions, event_loop},
    proc::{ExitListener, Exits, ProcError, TaskStatsLayout, taskstats_layout},
};

/// What to verify, and how.
pub struct VerifyOptions {
    /// The command.
    pub launch: Launch,
    /// How it is traced. Pages are logged if the ledger needs them.
    pub session: SessionOptions,
    /// Wait for descendants.
    pub follow: bool,
    /// When smaps is read, after the start of the command.
    pub ledger: Option<[Duration; 2]>,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The tracer, or the command.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is nothing to hold counts against.
    #[error("there is nothing to hold the counts against: {0}")]
    NoOracle(#[from] ProcError),
    /// The kernel's figures are not where they belong.
    #[error(
        "there is nothing to hold the counts against: taskstats of version {version} (Linux 6.14 and 6.15) has its \
         fields in other places, which later kernels have taken back"
    )]
    Mislaid {
        /// Of taskstats.
        version: u16,
    },
    /// The kernel's accounting cannot be switched on.
    #[error("{0:#}")]
    Accounting(anyhow::Error),
    /// Waiting is not possible.
    #[error("{0:#}")]
    EventLoop(anyhow::Error),
}

/// Runs the command and compares. Delay accounting is as before when this returns, however it returns.
///
/// # Errors
/// Nothing could be traced, or compared with.
pub fn verify(options: VerifyOptions, interrupts: Interrupts) -> Result<VerifyReport, VerifyError> {
    let layout = taskstats_layout()?;
    if !layout.in_place {
        return Err(VerifyError::Mislaid { version: layout.version });
    }
    let event_loop = event_loop().map_err(VerifyError::EventLoop)?;
    // From here on all is put back by dropping it.
    let accounting = Accounting::switch_on(layout).map_err(VerifyError::Accounting)?;
    let listener = ExitListener::start()?;
    let ksm_before = ksm::count();
    let (finished, readings) = event_loop.block_on(trace(&options, interrupts))?;
    let exits = listener.finish()?;
    let (smaps, ledger) = match readings {
        Some(readings) => readings.finish(&finished.report.backend),
        None => (smaps::not_asked_for(), None),
    };
    let report = finished.report;
    let run = Run {
        backend: &report.backend,
        lost: &report.lost,
        lost_records: exits.lost,
        accounting_off: accounting.was_switched_off(),
    };
    let processes = judge(&report.processes, &exits.processes, run);
    let oracles = vec![
        wpcopy_oracle(&accounting, &processes, &exits),
        faults_oracle(layout, &processes, &exits),
        ksm::oracle(ksm_before, ksm::count(), &report.processes),
        smaps,
    ];
    let totals = totals(&processes, &oracles, run);
    let (kernel, backend, lost) = (report.kernel.clone(), report.backend.clone(), report.lost);
    Ok(VerifyReport {
        schema: VERIFY_SCHEMA,
        kernel,
        backend,
        lost,
        oracles,
        processes,
        totals,
        ledger,
        report,
    })
}

async fn trace(
    options: &VerifyOptions,
    interrupts: Interrupts,
) -> Result<(Finished, Option<Readings>), SessionError> {
    let session_options = SessionOptions { page_log: options.ledger.is_some(), ..options.session.clone() };
    let session = Session::start(&options.launch, &session_options)?;
    let mut readings = options.ledger.map(Readings::at);
    let mut look = |session: &mut Session| {
        if let Some(readings) = &mut readings {
            readings.look(session);
        }
    };
    let finished = session.run_with(options.follow, interrupts, &mut look).await?;
    Ok((finished, readings))
}

fn wpcopy_oracle(accounting: &Accounting, processes: &[ProcessVerdict], exits: &Exits) -> Oracle {
    let compared = || processes.iter().filter(|p| p.wpcopy.is_some() && p.kernel_wpcopy.is_some());
    let equal = compared().filter(|process| process.wpcopy == process.kernel_wpcopy).count();
    let untraced = processes.iter().filter(|process| process.verdict == Verdict::NotTraced).count();
    let missing = if untraced > 0 { format!("; {untraced} more were not traced") } else { String::new() };
    let lost = match (&exits.problem, exits.lost) {
        (_, 0) => String::new(),
        (None, lost) => format!("; {lost} records found no room"),
        (Some(problem), lost) => {
            format!("; {lost} records found no room, or were not understood ({problem})")
        }
    };
    let there = accounting.why_not().is_none();
    Oracle {
        name: OracleName::WpcopyCount,
        available: there,
        why_not: accounting.why_not().map(str::to_owned),
        covers: "entries into the write-protect copy path (copy, zero, file after a read, ksm, hugetlb), by process, \
                 from taskstats: equal to wpcopy",
        lost_records: exits.lost,
        finding: there.then_some(if equal < compared().count() || untraced > 0 {
            Finding::Differs
        } else if exits.lost > 0 {
            Finding::Incomplete
        } else {
            Finding::Holds
        }),
        explanation: there
            .then(|| format!("equal in {equal} of {} processes{missing}{lost}", compared().count())),
    }
}

fn faults_oracle(layout: TaskStatsLayout, processes: &[ProcessVerdict], exits: &Exits) -> Oracle {
    let bounds = || {
        processes
            .iter()
            .filter_map(|process| Some((process.faults?, process.minor_faults? + process.major_faults?)))
    };
    let within = bounds().filter(|(counted, solved)| counted <= solved).count();
    let first_threads = match layout.process {
        true => "",
        false => " (of one thread: this kernel does not tell whose other threads are)",
    };
    Oracle {
        name: OracleName::MinorFaults,
        available: true,
        why_not: None,
        covers: "page faults that the kernel solved, by process, from taskstats: at least the write faults counted",
        lost_records: exits.lost,
        finding: Some(match within == bounds().count() {
            true if exits.lost > 0 => Finding::Incomplete,
            true => Finding::Holds,
            false => Finding::Differs,
        }),
        explanation: Some(format!(
            "at least as many in {within} of {} processes{first_threads}",
            bounds().count()
        )),
    }
}
