//! The command line: what can be asked, and with which exit status it ends.

mod exit;
mod lab;
mod output;
mod run;
mod text;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
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
#[command(name = "cowtrace", version, propagate_version = true, after_help = exit::HELP)]
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
    /// Run the fork and copy-on-write experiments live, with a verdict on each claim
    Lab(lab::LabArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
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
        Err(error) => {
            // Help and version are no errors; a broken pipe while printing them is none either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let globals = Globals { verbose: cli.verbose, color: cli.color };
    log_to_stderr(globals);
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args, globals),
        Command::Lab(args) => lab::run(&args, globals),
        Command::Completions { shell } => completions(shell),
        Command::Man => man(),
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
        .with_writer(io::stderr)
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

fn man() -> Result<u8, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|e| Failure::failed(e.into()))?;
    output::print(&page)?;
    Ok(0)
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
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
