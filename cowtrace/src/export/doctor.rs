//! What `doctor` found, as text.

use comfy_table::{Color, Row};

use super::{
    Style,
    page::{Page, wrapped},
    table::{cell, rendered},
};
use crate::{
    doctor::{Checkup, FunctionFact, Presence, State},
    probe::{BackendTrial, HookTrial},
};

/// The whole report.
pub fn doctor(checkup: &Checkup, style: &Style) -> String {
    let mut page = Page::new(*style);
    page.verdict(checkup);
    page.findings(checkup);
    for trial in &checkup.backends {
        page.backend(trial, checkup);
    }
    page.functions(&checkup.functions);
    page.costs(checkup);
    page.text
}

/// A sign, so that it is not told by colour alone, and its colour.
fn mark(state: State) -> (&'static str, Color) {
    match state {
        State::Good => ("✓", Color::Green),
        State::Limited => ("≠", Color::Yellow),
        State::Missing => ("✗", Color::Red),
        State::Unknown => ("?", Color::Yellow),
        State::Unneeded => ("·", Color::DarkGrey),
    }
}

fn hook_state(hook: &HookTrial) -> State {
    match (&hook.answer, hook.required) {
        (None, _) => State::Good,
        (Some(_), true) => State::Missing,
        (Some(_), false) => State::Limited,
    }
}

impl Page {
    fn verdict(&mut self, checkup: &Checkup) {
        let version = checkup.cowtrace.version;
        let sentence = match (&checkup.backend, &checkup.reason) {
            (Some(backend), _) => {
                let blind = if backend.blind_to.is_empty() {
                    String::new()
                } else {
                    format!(", which cannot see: {}", backend.blind_to.join(", "))
                };
                format!("cowtrace {version} works here, with the {} backend{blind}", backend.name)
            }
            (None, Some(reason)) => format!("cowtrace {version} cannot trace here: {reason}"),
            (None, None) => format!("cowtrace {version} cannot trace here"),
        };
        for line in wrapped(&sentence, self.style.width.min(100)) {
            let line = self.painted("1", &line);
            self.line(&line);
        }
        self.line("");
    }

    fn findings(&mut self, checkup: &Checkup) {
        let rows = checkup.findings.iter().map(|f| (f.state, f.subject.to_owned(), f.found.clone()));
        self.rows(rows.collect());
    }

    fn backend(&mut self, trial: &BackendTrial, checkup: &Checkup) {
        let name = trial.backend.name();
        let used = checkup.backend.as_ref().is_some_and(|backend| backend.name == name);
        let blind = if trial.blind_to.is_empty() {
            String::new()
        } else {
            format!("; cannot see: {}", trial.blind_to.join(", "))
        };
        let (sign, text) = match (trial.works, &trial.refusal) {
            (true, _) if used => ("✓", format!("would be used{blind}")),
            (true, _) => ("✓", format!("its hooks attach{blind}")),
            (false, Some(refusal)) => ("✗", refusal.clone()),
            (false, None) => ("✗", "does not work here".to_owned()),
        };
        self.paragraph(&format!("{sign}  backend {name}: "), &text);
        match same_answer(&trial.hooks) {
            Some(answer) => {
                let hooks = trial.hooks.iter().map(|hook| hook.hook.as_str()).collect::<Vec<_>>().join(", ");
                self.paragraph(
                    "",
                    &format!("None of its hooks attaches: {hooks}. The kernel's answer: {answer}."),
                );
                self.line("");
            }
            None if trial.hooks.is_empty() => self.line(""),
            None => {
                let rows =
                    trial.hooks.iter().map(|hook| (hook_state(hook), hook.hook.clone(), what_came_of(hook)));
                self.rows(rows.collect());
            }
        }
    }

    fn functions(&mut self, functions: &[FunctionFact]) {
        self.paragraph("Functions of this kernel", "");
        let row = |function: &FunctionFact| {
            let (state, text) = match function.presence {
                Presence::Whole => (State::Good, "there".to_owned()),
                Presence::SymbolOnly => (State::Good, "there, but not in BTF: for kprobes only".to_owned()),
                Presence::Changed => {
                    (State::Limited, format!("changed by the compiler: {}", function.variants.join(", ")))
                }
                Presence::Absent => (State::Unneeded, "inlined or not in this kernel".to_owned()),
                Presence::Unknown => (State::Unknown, "not known, as the symbols cannot be read".to_owned()),
            };
            (state, function.name.to_owned(), text)
        };
        self.rows(functions.iter().map(row).collect());
    }

    fn costs(&mut self, checkup: &Checkup) {
        self.paragraph("What is missing, what it costs, and what to do", "");
        let of_state = |state: State| checkup.findings.iter().filter(move |finding| finding.state == state);
        // What stops everything comes first.
        let in_order = [State::Missing, State::Unknown, State::Limited].into_iter().flat_map(of_state);
        let mut nothing = true;
        for finding in in_order {
            let Some(costs) = &finding.costs else { continue };
            nothing = false;
            let advice =
                finding.advice.as_ref().map_or_else(String::new, |advice| format!(". To do: {advice}"));
            let (sign, _) = mark(finding.state);
            self.paragraph(&format!("{sign}  {}: ", finding.subject), &format!("{costs}{advice}."));
        }
        for hook in checkup.lost_hooks() {
            nothing = false;
            let (sign, _) = mark(hook_state(hook));
            self.paragraph(&format!("{sign}  {}: ", hook.hook), &format!("lost without it: {}.", hook.gives));
        }
        if nothing {
            self.paragraph("", "Nothing is missing on this machine.");
        }
    }

    /// A sign, a name and what is said of it, in columns.
    fn rows(&mut self, rows: Vec<(State, String, String)>) {
        let mut table = self.table();
        for (state, name, text) in rows {
            let (sign, color) = mark(state);
            let cells = [self.colored(cell(sign), color), cell(&name), cell(&text)];
            let cells = if state == State::Unneeded { cells.map(|cell| self.faint(cell)) } else { cells };
            table.add_row(Row::from(cells));
        }
        self.text.push_str(&rendered(&table));
        self.line("");
    }
}

/// The answer that all hooks got, if none attached and all got the same.
fn same_answer(hooks: &[HookTrial]) -> Option<&str> {
    let (first, rest) = hooks.split_first()?;
    let answer = first.answer.as_deref()?;
    (!rest.is_empty() && rest.iter().all(|hook| hook.answer.as_deref() == Some(answer))).then_some(answer)
}

fn what_came_of(hook: &HookTrial) -> String {
    match (&hook.answer, &hook.target) {
        (Some(answer), _) => format!("{answer}; lost without it: {}", hook.gives),
        (None, Some(target)) if !hook.hook.ends_with(target.as_str()) => format!("attached to {target}"),
        (None, _) => "attached".to_owned(),
    }
}
