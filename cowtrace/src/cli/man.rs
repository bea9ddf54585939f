//! `cowtrace man`: the manual pages, one for the whole and one for each command.

use clap::CommandFactory as _;
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};

use super::{Cli, Failure, exit, output};

/// Commands of a page, each with what it is good for.
type Examples = &'static [(&'static str, &'static str)];

/// Prints the page of a command, or, without one, that of the whole.
pub(super) fn run(command: Option<&str>) -> Result<u8, Failure> {
    output::print(&page(command)?)?;
    Ok(0)
}

fn page(command: Option<&str>) -> Result<Vec<u8>, Failure> {
    // `cowtrace-help(1)` would have nothing to say.
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    let mut shown = match command {
        None => whole.clone(),
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| unknown(name, &whole))?,
    };
    let usage = shown.render_usage().to_string();
    let shown = shown.override_usage(usage.trim_start_matches("Usage:").trim().to_owned());
    let pages: Vec<String> =
        whole.get_subcommands().map(|sub| format!("cowtrace-{}", sub.get_name())).collect();
    let others = if command.is_some() { vec!["cowtrace".to_owned()] } else { pages };
    render(shown, command, &others).map_err(|error| Failure::failed(error.into()))
}

fn unknown(name: &str, whole: &clap::Command) -> Failure {
    let names: Vec<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
    Failure::usage(anyhow::anyhow!(
        "there is no command {name:?} with a manual page; there are {}",
        names.join(", ")
    ))
}

fn render(shown: clap::Command, command: Option<&str>, others: &[String]) -> std::io::Result<Vec<u8>> {
    let version = env!("CARGO_PKG_VERSION");
    let has_commands = shown.has_subcommands();
    let man = Man::new(shown).source(format!("cowtrace {version}")).manual("cowtrace");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    let about = exit::of_command(command);
    if let Some(note) = about.note {
        rest.control("SH", ["NOTES"]);
        rest.text([roman(note)]);
    }
    rest.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in about.statuses {
        item(&mut rest, status, meaning);
    }
    if let Some(end) = about.end {
        rest.control("PP", []);
        rest.text([roman(end)]);
    }
    rest.control("SH", ["EXAMPLES"]);
    for (line, what) in examples(command) {
        item(&mut rest, line, what);
    }
    rest.control("SH", ["SEE ALSO"]);
    let mut names: Vec<Inline> = Vec::new();
    for name in others {
        names.extend([roman(if names.is_empty() { "" } else { ", " }), bold(name.as_str()), roman("(1)")]);
    }
    rest.text(names);
    rest.to_writer(&mut page)?;
    Ok(page)
}

fn item(page: &mut Roff, name: &str, text: &str) {
    page.control("TP", []);
    page.text([bold(name)]);
    page.text([roman(text)]);
}

fn examples(command: Option<&str>) -> Examples {
    match command {
        Some("run") => &[
            (
                "cowtrace run -- sh -c 'ls -lR /etc | sort | tail -1'",
                "Counts the copies of a shell and its children.",
            ),
            (
                "cowtrace run --stacks --flamegraph copies.svg -- ./server --self-test",
                "Draws which code made them.",
            ),
            ("cowtrace run --format json -o report.json -- make", "Writes the report for programs."),
        ],
        Some("attach") => &[
            (
                "cowtrace attach --duration 30s -p 7284,7290",
                "Traces two processes, and all that descend from them.",
            ),
            ("cowtrace attach --forecast --comm redis-server", "Tells how much each save will have copied."),
        ],
        Some("trace") => &[
            ("cowtrace trace --comm redis-server --region '[heap]'", "A line for each copy in the heap."),
            ("cowtrace trace --kind all --limit 100 -- ls", "The first 100 faults of any kind."),
        ],
        Some("top") => &[
            ("cowtrace top", "Watches all processes."),
            ("cowtrace top --once -i 5s", "Prints what came to pass in five seconds."),
        ],
        Some("record") => &[
            ("cowtrace record -o before.cowtrace -- ./server --self-test", "Keeps a run, to be compared."),
            (
                "cowtrace record --stacks -d 60s -o minute.cowtrace --comm redis-server",
                "Keeps a minute, with stacks.",
            ),
        ],
        Some("report") => &[(
            "cowtrace report --flamegraph copies.svg minute.cowtrace",
            "Shows a recording, and draws its stacks.",
        )],
        Some("diff") => {
            &[("cowtrace diff before.cowtrace after.cowtrace", "Shows what became more, and what less.")]
        }
        Some("verify") => &[
            ("cowtrace verify -- make -j4", "Holds the count of each process against the kernel's own."),
            (
                "cowtrace verify --ledger 200ms,800ms -- ./server --self-test",
                "Explains Private_Dirty as well.",
            ),
        ],
        Some("lab") => &[
            ("cowtrace lab --list", "Lists the experiments."),
            ("cowtrace lab --report lab.html", "Runs all of them, and writes a page with charts."),
        ],
        Some("doctor") => &[("cowtrace doctor", "Tells what works here, what does not, and what to do.")],
        Some("completions") => {
            &[("cowtrace completions bash > /etc/bash_completion.d/cowtrace", "Installs them.")]
        }
        Some("man") => &[("cowtrace man run | man -l -", "Shows the page of a command.")],
        _ => &[
            ("cowtrace doctor", "Tells whether and how this machine can be traced."),
            ("cowtrace run -- COMMAND", "Counts the copies of a command and all its descendants."),
            ("cowtrace attach --comm redis-server", "Counts those of what already runs, until Ctrl-C."),
            ("cowtrace top", "Watches who copies now."),
            ("cowtrace man run | man -l -", "Shows the page of a command."),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(command: Option<&str>) -> String {
        String::from_utf8(page(command).unwrap()).unwrap()
    }

    #[test]
    fn every_page_that_is_referred_to_is_there() {
        let main = text(None);
        let names: Vec<String> =
            Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        assert!(names.len() > 10 && !main.contains("EXTRA") && !main.contains("help(1)"), "{main}");
        for name in names {
            assert!(main.contains(&format!("cowtrace\\-{name}(1)")), "{name} in {main}");
            let page = text(Some(&name));
            assert!(page.contains(&format!(".TH cowtrace-{name} 1")), "{page}");
            for section in ["NAME", "SYNOPSIS", "OPTIONS", "\"EXIT STATUS\"", "EXAMPLES", "\"SEE ALSO\""] {
                assert!(page.contains(&format!(".SH {section}\n")), "{section} in {page}");
            }
        }
    }

    #[test]
    fn examples_are_command_lines_that_are_understood() {
        let whole = Cli::command();
        for name in whole.get_subcommands().map(clap::Command::get_name).map(Some).chain([None]) {
            for (line, _) in examples(name) {
                // Without what is the shell's.
                let words = line.split(' ').take_while(|word| !["|", ">", "sh"].contains(word));
                let words = words.chain(line.contains(" sh ").then_some("sh"));
                assert!(Cli::command().try_get_matches_from(words).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn a_page_has_the_options_of_its_command() {
        let page = text(Some("run"));
        assert!(page.contains("\\-\\-max\\-pages") && page.contains("cowtrace run"), "{page}");
        assert!(page.contains("128+N"), "{page}");
        assert!(super::page(Some("nope")).is_err());
    }
}
