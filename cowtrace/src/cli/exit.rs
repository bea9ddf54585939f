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

/// What is told of a command's exit statuses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statuses {
    /// What is told before them.
    pub(super) note: Option<&'static str>,
    /// Each, with its meaning.
    pub(super) statuses: &'static [(&'static str, &'static str)],
    /// What is told after them.
    pub(super) end: Option<&'static str>,
}

const COMMON: Statuses = Statuses {
    note: None,
    statuses: &[
        ("0", "done"),
        ("1", "a claim or a count does not hold, or a file cannot be written or read"),
        ("2", "bad usage"),
        ("3", "not permitted, or not supported here"),
        ("126, 127", "the command cannot be executed, or is not found (run, record, trace, verify)"),
        ("128+N", "signal N ended the command (run, record, trace)"),
    ],
    end: Some("Else the status of run, record and trace is that of the command that they started."),
};

const VERIFY: Statuses = Statuses {
    note: Some(
        "Delay accounting (kernel.task_delayacct) is switched on for the run, and put back after it; a run that is ended by \
         SIGKILL cannot put it back.",
    ),
    statuses: &[
        ("0", "exact: every count that could be compared holds"),
        ("1", "a count does not hold, or records of an oracle are missing; or a file cannot be written"),
        ("2", "bad usage"),
        ("3", "not permitted, or not supported here"),
        ("126, 127", "the command cannot be executed, or is not found"),
    ],
    end: Some("The command's own status is in the report, and does not decide."),
};

/// Those of a command; `None`: of all but those that have their own.
pub(super) fn of_command(command: Option<&str>) -> Statuses {
    if command == Some("verify") { VERIFY } else { COMMON }
}

impl Statuses {
    /// The last lines of `--help`.
    pub(super) fn help(self) -> String {
        let mut paragraphs: Vec<String> = self.note.iter().map(|note| format!("{note}\n")).collect();
        paragraphs.push("Exit status:".to_owned());
        paragraphs.extend(self.statuses.iter().map(|(status, meaning)| format!("  {status:<8} {meaning}")));
        paragraphs.extend(self.end.map(str::to_owned));
        paragraphs.join("\n")
    }
}

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
