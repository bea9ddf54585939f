//! A comparison for people.

use std::fmt::Write as _;

use super::{
    Style, printable,
    table::{Columns, Tone, bytes, duration, fitting, quote, shorten, tail, thousands},
};
use crate::diff::{Change, Diff, Rate, Row, Side};

/// Columns of numbers beside a name; the last three are differences.
const HEADER: [&str; 7] = ["copies A", "B", "difference", "ratio", "copied", "zero", "file"];
/// Those that are always shown.
const LEAST_COLUMNS: usize = 3;
const PROCESS: &str = "process";
const NO_DIFFERENCE: &str = "\nno difference\n";

/// How a number is written.
type Form = fn(u64) -> String;

/// Renders the comparison; `top`: processes, and mappings, at most, 0 for all.
pub fn diff(diff: &Diff, style: &Style, top: usize) -> String {
    let mut text = String::from("\n");
    let width = diff.a.file.chars().count().max(diff.b.file.chars().count()).min(style.width / 3);
    side(&mut text, "A", &diff.a, width, *style);
    side(&mut text, "B", &diff.b, width, *style);
    let (warn, plain) = if style.color { ("\x1b[33m", "\x1b[0m") } else { ("", "") };
    for warning in &diff.warnings {
        let _ = writeln!(text, "{warn}warning  {}{plain}", printable(warning));
    }
    text.push('\n');
    totals(&mut text, diff, *style);
    if diff.same {
        text.push_str(NO_DIFFERENCE);
        return text;
    }
    let told = text.len();
    rows(&mut text, PROCESS, &diff.processes, *style, top);
    rows(&mut text, "mapping", &diff.regions, *style, top);
    stacks(&mut text, &diff.stacks, *style, top);
    // What is left are rates, and names that have no counts.
    if text.len() == told && diff.totals.is_none() {
        text.push_str(NO_DIFFERENCE);
    }
    text
}

fn side(text: &mut String, name: &str, side: &Side, width: usize, style: Style) {
    let ending = match side.exit_status {
        Some(status @ 0..=128) => format!("exit status {status}, "),
        Some(status) => format!("ended by signal {}, ", status - 128),
        None => String::new(),
    };
    let took = duration(side.duration_ns);
    let room = style.width.saturating_sub(width + ending.len() + took.len() + 10).max(20);
    let mut command = side.command.clone();
    // What tells two runs apart comes behind the program's path.
    if let Some(program) = command.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let command = shorten(&quote(&command), room);
    let file = shorten(&printable(&side.file), width);
    let _ = writeln!(text, "{name}  {file:<width$}  {command}  ({ending}{took})");
}

fn totals(text: &mut String, diff: &Diff, style: Style) {
    let mut table = Columns::new(style, &["", "A", "B", "difference", "ratio"]);
    let sums = &diff.totals;
    let lines: [(&str, &Change, Form); 4] = [
        ("copies", &sums.copy, thousands),
        ("copied", &sums.copied_bytes, bytes),
        ("zero pages", &sums.zero, thousands),
        ("file pages", &sums.file, thousands),
    ];
    for (index, (name, change, form)) in lines.into_iter().enumerate() {
        let value = |value: Option<u64>| value.map_or_else(unknown, form);
        let difference = signed(change.difference, form);
        let cells =
            [name.to_owned(), value(change.a), value(change.b), difference, ratio(change.ratio, change.a)];
        table.row(&cells, if index == 0 { Tone::Strong } else { Tone::Plain });
    }
    if diff.a.duration_ns != diff.b.duration_ns {
        table.row(&per_second(&diff.copies_per_second), Tone::Plain);
    }
    text.push_str(&table.render());
}

fn per_second(rate: &Rate) -> [String; 5] {
    let whole = |value: f64| value.round().abs() as u64;
    let value = |value: Option<f64>| value.map_or_else(unknown, |value| thousands(whole(value)));
    let difference = signed(rate.difference.map(|value| value.round() as i64), thousands);
    let a = rate.a.map(whole);
    ["copies per second".to_owned(), value(rate.a), value(rate.b), difference, ratio(rate.ratio, a)]
}

/// Those that differ; what else there is, is counted. A narrow terminal loses the last columns.
fn rows(text: &mut String, what: &str, rows: &[Row], style: Style, top: usize) {
    let differs = |row: &&Row| !row.figures.is_none() || (what == PROCESS && !row.count.is_none());
    let changed: Vec<&Row> = rows.iter().filter(differs).collect();
    if changed.is_empty() {
        return;
    }
    let equal = rows.len() - changed.len();
    let columns = (LEAST_COLUMNS..=HEADER.len()).rev();
    let tables = columns.map(|columns| row_table(what, &changed, equal, columns, style, top));
    let _ = write!(text, "\n{}", fitting(tables, style.width));
}

fn row_table(what: &str, rows: &[&Row], equal: usize, columns: usize, style: Style, top: usize) -> String {
    let header: Vec<&str> = std::iter::once(what).chain(HEADER[..columns].iter().copied()).collect();
    let mut table = Columns::new(style, &header);
    let width = style.width.saturating_sub(11 * columns).clamp(20, 48);
    let limit = if top == 0 { rows.len() } else { top };
    for row in rows.iter().take(limit) {
        let figures = &row.figures;
        let copy = &figures.copy;
        let value = |value: Option<u64>| value.map_or_else(unknown, nothing_as_dot);
        let numbers = [
            value(copy.a),
            value(copy.b),
            signed(copy.difference, thousands),
            ratio(copy.ratio, copy.a),
            signed(figures.copied_bytes.difference, bytes),
            signed(figures.zero.difference, thousands),
            signed(figures.file.difference, thousands),
        ];
        let label = if what == PROCESS { process_label(row, width) } else { tail(&row.name, width) };
        let cells: Vec<String> = std::iter::once(label).chain(numbers.into_iter().take(columns)).collect();
        table.row(&cells, Tone::Plain);
    }
    let hidden = rows.len().saturating_sub(limit);
    if hidden > 0 {
        table.row(&[format!("… {} more (--top 0 shows all)", thousands(hidden as u64))], Tone::Faint);
    }
    if equal > 0 {
        table.row(&[format!("{} more without a difference", thousands(equal as u64))], Tone::Faint);
    }
    table.render()
}

/// The name, and how many processes had it if that was not one on each side.
fn process_label(row: &Row, width: usize) -> String {
    let (a, b) = (row.count.a.unwrap_or(0), row.count.b.unwrap_or(0));
    let count = match (a, b) {
        (1, 1) => String::new(),
        _ if a == b => format!(" (×{})", thousands(a)),
        _ => format!(" ({} → {})", thousands(a), thousands(b)),
    };
    shorten(&row.name, width.saturating_sub(count.chars().count()).max(8)) + &count
}

/// The stacks that differ. Their names are long, so they come last in a line, without what finds no room.
fn stacks(text: &mut String, rows: &[Row], style: Style, top: usize) {
    let changed: Vec<&Row> = rows.iter().filter(|row| !row.figures.is_none()).collect();
    if changed.is_empty() {
        return;
    }
    let (bold, plain) = if style.color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let line = |a: &str, b: &str, difference: &str, ratio: &str, name: &str| {
        let numbers = format!(" {a:>10} {b:>10} {difference:>11} {ratio:>6}  ");
        let room = style.width.saturating_sub(numbers.len()).max(16);
        format!("{numbers}{}", shorten(name, room))
    };
    let header = line("copies A", "B", "difference", "ratio", "stack: who wrote ← its callers");
    let _ = writeln!(text, "\n{bold}{header}{plain}");
    let limit = if top == 0 { changed.len() } else { top };
    for row in changed.iter().take(limit) {
        let copy = &row.figures.copy;
        let value = |value: Option<u64>| value.map_or_else(unknown, nothing_as_dot);
        let (difference, ratio) = (signed(copy.difference, thousands), ratio(copy.ratio, copy.a));
        let name = stack_name(&row.name);
        let _ = writeln!(text, "{}", line(&value(copy.a), &value(copy.b), &difference, &ratio, &name));
    }
    let more = |count: usize, what: &str| match count {
        0 => String::new(),
        count => format!(" {} more {what}\n", thousands(count as u64)),
    };
    text.push_str(&more(changed.len().saturating_sub(limit), "stacks that differ (--top 0 shows all)"));
    text.push_str(&more(rows.len() - changed.len(), "stacks without a difference"));
}

/// The program, the function that wrote, and its callers.
fn stack_name(folded: &str) -> String {
    let (comm, frames) = folded.split_once(';').unwrap_or((folded, ""));
    let frames: Vec<&str> = frames.rsplit(';').filter(|frame| !frame.is_empty()).collect();
    let frames = if frames.is_empty() { "(not known)".to_owned() } else { frames.join(" ← ") };
    printable(&format!("{comm}: {frames}")).into_owned()
}

fn unknown() -> String {
    "?".to_owned()
}

fn nothing_as_dot(value: u64) -> String {
    if value == 0 { "·".to_owned() } else { thousands(value) }
}

fn signed(value: Option<i64>, form: Form) -> String {
    match value {
        None => unknown(),
        Some(0) => "·".to_owned(),
        Some(value) => format!("{}{}", if value < 0 { '-' } else { '+' }, form(value.unsigned_abs())),
    }
}

fn ratio(ratio: Option<f64>, a: Option<u64>) -> String {
    match (ratio, a) {
        (Some(ratio), _) => format!("{ratio:.2}"),
        (None, Some(0)) => "·".to_owned(),
        (None, _) => unknown(),
    }
}
