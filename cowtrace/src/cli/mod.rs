//! The command line: what can be asked, and with which exit status it ends.

mod attach;
mod diff;
mod doctor;
mod exit;
mod forecast;
mod lab;
mod man;
mod messages;
mod out_file;
mod output;
mod pages;
mod record;
mod report;
mod reported;
mod run;
mod stacks;
mod subject;
mod text;
mod top;
mod trace;
mod trace_lines;
mod tracer;
mod verify;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum, error::ErrorKind};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use exit::Failure;

/// Shows every copy-on-write page copy: which process, where in its memory, and what it cost.
///
/// A copy-on-write (COW) copy is made when a process writes to a page that it shares since a fork. cowtrace counts
/// these copies in the kernel, exactly, and apart from what is easily mistaken for them: first touches, writes to the
/// zero page, private file pages, reused and shared pages.
#[derive(Parser, Debug)]
#[command(name = "cowtrace", version, propagate_version = true, after_help = exit::of_command(None).help())]
struct Cli {
    /// Say more: -v steps and kernel-side warnings, -vv times and every process, -vvv everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// When to colour
    #[arg(long, value_enum, default_value_t, global = true, value_name = "WHEN")]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Trace a command and all its descendants from its first instruction, then report
    Run(run::RunArgs),
    /// Trace what already runs, and all its descendants, then report
    Attach(attach::AttachArgs),
    /// Tell of each copy while it happens, a line each
    Trace(trace::TraceArgs),
    /// Watch who copies now, and what forks in flight cost
    Top(top::TopArgs),
    /// Trace like `run` or `attach`, and keep everything in a file meanwhile
    Record(record::RecordArgs),
    /// Show the report of a recording
    Report(report::ReportArgs),
    /// Compare two recordings, or reports in JSON: what became more, and what less
    Diff(diff::DiffArgs),
    /// Trace a command, and hold every count against the kernel's own
    #[command(after_help = exit::of_command(Some("verify")).help())]
    Verify(verify::VerifyArgs),
    /// Run the fork and copy-on-write experiments live, with a verdict on each claim
    Lab(lab::LabArgs),
    /// Tell what this kernel and these privileges allow, and which backend would be used
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    Man {
        /// The command whose page it is; without one, the page of the whole
        command: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What all commands share.
#[derive(Clone, Copy, Debug)]
struct Globals {
    verbose: u8,
    color: ColorChoice,
}

impl Globals {
    /// aya-log's level of kernel-side diagnostics: none unless asked for, as they cost in the traced processes.
    fn kernel_log_level(self) -> u8 {
        match self.verbose {
            0 => 0,
            1 => 2,
            _ => 4,
        }
    }
}

/// Parses the command line, does what it says, and gives the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let text = match error.kind() {
                // Nothing was said, and nothing is wrong with it: what could be said is the answer.
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.render().to_string(),
                _ => usage_error(&error.render().to_string()),
            };
            // Nobody may be there to read it.
            let _ = io::stderr().write_all(text.as_bytes());
            return ExitCode::from(exit::USAGE);
        }
        Err(help) => {
            // A broken pipe while printing help or version is no error.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let globals = Globals { verbose: cli.verbose, color: cli.color };
    log_to_stderr(globals);
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args, globals),
        Command::Attach(args) => attach::run(&args, globals),
        Command::Top(args) => top::run(&args, globals),
        Command::Trace(args) => trace::run(&args, globals),
        Command::Record(args) => record::run(&args, globals),
        Command::Report(args) => report::run(&args, globals),
        Command::Diff(args) => diff::run(&args, globals),
        Command::Verify(args) => verify::run(&args, globals),
        Command::Lab(args) => lab::run(&args, globals),
        Command::Doctor(args) => doctor::run(&args, globals),
        Command::Completions { shell } => completions(shell),
        Command::Man { command } => man::run(command.as_deref()),
    };
    exit::status(outcome)
}

fn log_to_stderr(globals: Globals) {
    let level = match globals.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // Libraries speak up only when something is wrong; `cowtrace_probes` is what the kernel side says (aya-log).
    let libraries = if globals.verbose > 2 { LevelFilter::TRACE } else { LevelFilter::WARN };
    let targets = Targets::new()
        .with_default(libraries)
        .with_target("cowtrace", level)
        .with_target("cowtrace_probes", level);
    let color = text::use_color(globals.color, &io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| messages::Messages)
        .with_ansi(color)
        .without_time()
        .with_target(false);
    tracing_subscriber::registry().with(lines).with(targets).init();
}

fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cowtrace", &mut script);
    output::print(&script)?;
    Ok(0)
}

/// What is wrong, in one line, and where help is, in a second: without the usage that clap adds.
fn usage_error(rendered: &str) -> String {
    let paragraph = rendered.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let message = paragraph.collect::<Vec<_>>().join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    // With words of the command line in it.
    let message = crate::export::printable(message);
    format!("cowtrace: {message}\ntry 'cowtrace --help', or 'cowtrace COMMAND --help'\n")
}

/// A command as a user would type it.
fn shell_words(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    crate::export::quote(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_errors_take_two_lines() {
        for words in
            [&["cowtrace", "run"][..], &["cowtrace", "nope"], &["cowtrace", "run", "--format", "xml", "x"]]
        {
            let error = Cli::try_parse_from(words).unwrap_err();
            let text = usage_error(&error.render().to_string());
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.starts_with("cowtrace: ") && text.len() > 60, "{text}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
