//! Who is traced: a command that is started, or what runs already.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::PathBuf,
    time::Duration,
};

use clap::{ArgGroup, Args};

use super::{output::Output, tracer::at_least_one};
use crate::collect::{Attach, Launch, Session, SessionError, SessionOptions, Target};

/// A command to start.
#[derive(Args, Debug)]
pub(super) struct CommandArgs {
    /// Report when the command exits, even if descendants still run
    #[arg(long)]
    no_follow: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl CommandArgs {
    /// Whether the end of its descendants is waited for.
    pub(super) fn follow(&self) -> bool {
        !self.no_follow
    }

    /// How it is to be started when the report goes to `output`.
    pub(super) fn launch(&self, output: &Output) -> Launch {
        launch(&self.command, output)
    }

    /// Starts and traces it; `output`: where the report goes.
    pub(super) fn begin(&self, options: &SessionOptions, output: &Output) -> Result<Session, SessionError> {
        start(&self.command, options, output)
    }
}

fn launch(command: &[OsString], output: &Output) -> Launch {
    let mut launch = Launch { command: command.to_vec(), inherit: Vec::new() };
    if output.is_stdout() {
        // Standard output is the JSON document's alone.
        launch.inherit.push((io::stderr().as_raw_fd(), io::stdout().as_raw_fd()));
    }
    launch
}

fn start(command: &[OsString], options: &SessionOptions, output: &Output) -> Result<Session, SessionError> {
    let session = Session::start(&launch(command, output), options)?;
    if let Some(root) = session.root() {
        tracing::info!("tracing {} as process {root}", super::shell_words(command));
    }
    Ok(session)
}

/// A command to start, or what runs already.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("whom").required(true).args(TargetArgs::IDS).arg("command")))]
pub(super) struct SubjectArgs {
    #[command(flatten)]
    running: RunningArgs,
    /// End when the command exits, even if descendants still run
    #[arg(long, requires = "command", conflicts_with_all = TargetArgs::IDS)]
    no_follow: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND", conflicts_with = "duration")]
    command: Vec<OsString>,
}

impl SubjectArgs {
    /// Begins to trace whom they name; `output`: where the report goes.
    pub(super) fn begin(&self, options: &SessionOptions, output: &Output) -> Result<Session, SessionError> {
        if self.is_command() { start(&self.command, options, output) } else { self.running.begin(options) }
    }

    /// Whether a command is to be started.
    pub(super) fn is_command(&self) -> bool {
        !self.command.is_empty()
    }

    /// Whether the end of descendants is waited for.
    pub(super) fn follow(&self) -> bool {
        !self.no_follow
    }
}

/// What runs already, and for how long it is traced.
#[derive(Args, Debug)]
pub(super) struct RunningArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// End after this time (10s, 5min); else when all that are traced have exited, or at Ctrl-C. With --comm and --cgroup, it
    /// also waits so long for who may come
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
}

impl RunningArgs {
    /// Begins to trace it, and tells that nothing is missed from here on.
    pub(super) fn begin(&self, options: &SessionOptions) -> Result<Session, SessionError> {
        let attach = Attach { target: self.target.target(), duration: self.duration };
        let mut session = Session::attach(&attach, options)?;
        let (processes, threads) = session.traced()?;
        let noun =
            |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let (processes, threads) =
            (noun(processes, "process", "processes"), noun(threads, "thread", "threads"));
        // Nobody may be there to read it.
        let _ = writeln!(io::stderr(), "cowtrace: attached to {processes} with {threads}; Ctrl-C reports");
        Ok(session)
    }
}

/// What runs already; at most one of these.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct TargetArgs {
    /// Processes with these ids, separated by commas or spaces
    #[arg(short, long, value_name = "PID", num_args = 1.., value_delimiter = ',', value_parser = at_least_one::<u32>)]
    pid: Vec<u32>,
    /// All processes with this command name (at most 15 characters, as `ps -eo comm` shows it)
    #[arg(long, value_name = "NAME", value_parser = command_name)]
    comm: Option<String>,
    /// All processes in this cgroup and those below it: as in /proc/PID/cgroup, or its folder
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// All processes
    #[arg(long)]
    all: bool,
}

impl TargetArgs {
    /// Ids of the options, for groups.
    pub(super) const IDS: [&'static str; 4] = ["pid", "comm", "cgroup", "all"];

    /// Who is named; everybody if nobody is.
    pub(super) fn target(&self) -> Target {
        match (&self.comm, &self.cgroup) {
            (Some(comm), _) => Target::Comm(comm.clone()),
            (_, Some(cgroup)) => Target::Cgroup(cgroup.clone()),
            _ if self.pid.is_empty() => Target::All,
            _ => Target::Pids(self.pid.clone()),
        }
    }
}

/// A length of time, as an option's value.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    // A number alone is seconds, as for sleep(1).
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(Duration::ZERO) => Err("nothing can be traced in no time".to_owned()),
        other => other,
    }
}

fn command_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty".to_owned()),
        1..cowtrace_abi::COMM_LEN => Ok(text.to_owned()),
        _ => Err(format!(
            "the kernel keeps 15 characters of a name; try {:?}",
            text.chars().take(cowtrace_abi::COMM_LEN - 1).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_can_leave_descendants_behind() {
        #[derive(clap::Parser)]
        struct Parser {
            #[command(flatten)]
            subject: SubjectArgs,
        }
        let parse = |words: &[&str]| {
            let words = ["cowtrace"].iter().chain(words);
            <Parser as clap::Parser>::try_parse_from(words).map(|parser| parser.subject.follow())
        };
        assert!(matches!(parse(&["--no-follow", "--", "true"]), Ok(false)));
        assert!(matches!(parse(&["-p", "1"]), Ok(true)));
        assert!(parse(&["--no-follow", "-p", "1"]).is_err());
        assert!(parse(&["-d", "1s", "true"]).is_err());
    }

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        for wrong in ["0", "-1", "soon", "", "1e300"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_as_long_as_the_kernel_keeps_them() {
        assert_eq!(command_name("redis-server"), Ok("redis-server".to_owned()));
        assert!(command_name("a-name-that-is-too-long").unwrap_err().contains("a-name-that-is-"));
        assert!(command_name("").is_err());
    }
}
