//! Exit statuses, and the words that go with them.

use std::{io, process::ExitCode};

use crate::{
    collect::{LaunchError, SessionError},
    export::printable,
    probe::ProbeError,
    recording::RecordError,
    verify::VerifyError,
};

/// Something failed: a claim or count does not hold, a file cannot be written.
const FAILED: u8 = 1;
/// Bad usage.
pub(super) const USAGE: u8 = 2;
/// Not permitted, or not supported here.
pub(super) const NOT_HERE: u8 = 3;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The last lines of `--help`.
pub(super) const HELP: &str = "\
Exit status:
  0        done
  1        a claim or a count does not hold, or a file cannot be written or read
  2        bad usage
  3        not permitted, or not supported here
  for run, record and trace
           the command's own; 128+N if signal N ended it, 127 not found, 126 not executable
           (the latter two for verify, too)";

/// An end that is not as it should be.
#[derive(Debug)]
pub(super) struct Failure {
    status: u8,
    error: anyhow::Error,
}

impl Failure {
    /// Exit status 1.
    pub(super) fn failed(error: anyhow::Error) -> Failure {
        Failure { status: FAILED, error }
    }

    /// Exit status 2.
    pub(super) fn usage(error: anyhow::Error) -> Failure {
        Failure { status: USAGE, error }
    }
}

impl Failure {
    /// One for all of them, if there are any: the first one's status, everybody's words.
    pub(super) fn of_all(failures: Vec<Failure>) -> Result<(), Failure> {
        let join = |all: Failure, next: Failure| Failure {
            status: all.status,
            error: anyhow::anyhow!("{:#}; {:#}", all.error, next.error),
        };
        failures.into_iter().reduce(join).map_or(Ok(()), Err)
    }

    /// The same, with what it means put after it.
    pub(super) fn adding(self, what: &str) -> Failure {
        Failure { status: self.status, error: anyhow::anyhow!("{:#}; {what}", self.error) }
    }

    /// Whether it is only that the reader of a report has gone away.
    pub(super) fn is_broken_pipe(&self) -> bool {
        let gone = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        };
        self.error.chain().any(gone)
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Failure {
        Failure { status: NOT_HERE, error: error.into() }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Failure {
        let status = match &error {
            SessionError::Probe(_) | SessionError::Mappings(_) => NOT_HERE,
            SessionError::Launch(LaunchError::NotFound { .. }) => NOT_FOUND,
            SessionError::Launch(LaunchError::NotExecutable { .. }) => NOT_EXECUTABLE,
            SessionError::Launch(LaunchError::Spawn { .. })
            | SessionError::Target(_)
            | SessionError::Wait { .. } => FAILED,
        };
        Failure { status, error: error.into() }
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Failure {
        match error {
            RecordError::Exists { .. } | RecordError::Foreign { .. } => Failure::usage(error.into()),
            _ => Failure::failed(error.into()),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Failure {
        match error {
            VerifyError::Session(error) => error.into(),
            VerifyError::EventLoop(_) => Failure::failed(error.into()),
            VerifyError::NoOracle(_) | VerifyError::Mislaid { .. } | VerifyError::Accounting(_) => {
                Failure { status: NOT_HERE, error: error.into() }
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    /// An error of unknown depth: what the tracer says decides.
    fn from(error: anyhow::Error) -> Failure {
        match error.downcast::<SessionError>() {
            Ok(session) => session.into(),
            Err(error) if error.is::<ProbeError>() => Failure { status: NOT_HERE, error },
            Err(error) => Failure::failed(error),
        }
    }
}

/// The exit status; errors are told on standard error, a reader that has gone away is not one.
pub(super) fn status(outcome: Result<u8, Failure>) -> ExitCode {
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // The writer may have closed standard error as well.
            let _ = io::Write::write_all(
                &mut io::stderr(),
                format!("cowtrace: {}\n", printable(&format!("{:#}", failure.error))).as_bytes(),
            );
            ExitCode::from(failure.status)
        }
    }
}
