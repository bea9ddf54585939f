//! The heaviest stacks, for people.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use super::{
    Style, printable,
    table::{shorten, thousands},
};
use crate::model::{Stack, StackKind, Stacks};

/// Stacks shown.
const SHOWN: usize = 10;
/// Frames shown of each.
const FRAMES: usize = 16;
/// Columns before the frames.
const INDENT: usize = 10;
/// Between a function and the one that called it.
const CALLED_BY: &str = " ← ";

/// The same functions, in one or more processes of one name.
struct Row<'a> {
    stack: &'a Stack,
    pages: u64,
    processes: u64,
}

/// What rows are told apart by: program, kind and functions.
type Same<'a> = (&'a Arc<str>, StackKind, &'a [Arc<str>]);

/// Writes the section: how good the stacks are, and the heaviest ones with the function that wrote first.
pub(super) fn stacks(text: &mut String, stacks: &Stacks, style: Style) {
    let rows = rows(&stacks.stacks);
    let _ = writeln!(text, "\nstacks   {}", summary(stacks, rows.len() as u64));
    for remark in remarks(stacks) {
        for line in wrapped(remark.split(' ').map(str::to_owned), " ", style.width.saturating_sub(10)) {
            let _ = writeln!(text, "         {line}");
        }
    }
    let (bold, plain) = if style.color { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    for row in rows.iter().take(SHOWN) {
        let who = match row.processes {
            1 => format!("{} {}", row.stack.pid, row.stack.comm),
            many => format!("{} ({} processes)", row.stack.comm, thousands(many)),
        };
        let who = shorten(&printable(&who), style.width.saturating_sub(INDENT + 11).max(8));
        let mark = if row.stack.is_short() { "  (short)" } else { "" };
        let _ = writeln!(
            text,
            "\n{bold}{:>8}{plain}  {:<8} {who}{mark}",
            thousands(row.pages),
            row.stack.kind.word()
        );
        let room = style.width.saturating_sub(INDENT + 1).max(16);
        for line in wrapped(frames(row.stack, room), CALLED_BY, room) {
            let _ = writeln!(text, "{:INDENT$}{line}", "");
        }
    }
    if rows.len() > SHOWN {
        let rest: u64 = rows.iter().skip(SHOWN).map(|row| row.pages).sum();
        let more = thousands((rows.len() - SHOWN) as u64);
        let _ = writeln!(text, "\n{:>8}  in {more} more stacks (all: --folded FILE)", thousands(rest));
    }
}

fn rows(stacks: &[Stack]) -> Vec<Row<'_>> {
    let mut index: HashMap<Same<'_>, usize> = HashMap::new();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for stack in stacks {
        let at = *index.entry((&stack.comm, stack.kind, &stack.frames)).or_insert(rows.len());
        match rows.get_mut(at) {
            Some(row) => {
                row.pages += stack.count;
                row.processes += 1;
            }
            None => rows.push(Row { stack, pages: stack.count, processes: 1 }),
        }
    }
    // Stable: equal ones stay in the order of the report.
    rows.sort_by_key(|row| std::cmp::Reverse(row.pages));
    rows
}

fn summary(stacks: &Stacks, rows: u64) -> String {
    let facts = &stacks.stack_frames;
    let frames = match facts.unresolved {
        0 => "all frames have a name".to_owned(),
        unresolved => {
            format!("{} of {} frames have no name", thousands(unresolved), thousands(facts.frames))
        }
    };
    match facts.pages {
        0 => "no copies".to_owned(),
        pages => format!("{} pages in {} stacks; {frames}", thousands(pages), thousands(rows)),
    }
}

fn remarks(stacks: &Stacks) -> Vec<String> {
    let facts = &stacks.stack_frames;
    let share = |pages: u64| format!("{:.0} %", pages as f64 * 100.0 / facts.pages.max(1) as f64);
    let mut remarks = Vec::new();
    if facts.pages_of_short_stacks > 0 {
        remarks.push(format!(
            "{} of the pages have a stack of one or two frames: their code, or a library that it called, may be built \
             without frame pointers",
            share(facts.pages_of_short_stacks)
        ));
    }
    if facts.pages_of_cut_stacks > 0 {
        remarks.push(format!(
            "{} of the pages have a stack that was too deep to be kept whole",
            share(facts.pages_of_cut_stacks)
        ));
    }
    remarks
}

/// The frames that are shown, the innermost first, each fitting into a line.
fn frames(stack: &Stack, room: usize) -> impl Iterator<Item = String> {
    let shown = stack.frames.iter().rev().take(FRAMES);
    // Two columns are for what leads to the next one.
    let shown = shown.map(move |name| shorten(&printable(&short_path(name)), room - 2));
    let hidden = stack.frames.len().saturating_sub(FRAMES);
    shown.chain((hidden > 0).then(|| format!("… {hidden} more")))
}

/// `[file+0xoffset]` without the path, which JSON has.
pub(super) fn short_path(name: &str) -> String {
    match name.strip_prefix("[/").and_then(|path| path.rsplit_once('/')) {
        Some((_, file)) => format!("[{file}"),
        None => name.to_owned(),
    }
}

/// Words in lines of this width; what is between two words stays at the end of a line.
pub(super) fn wrapped(words: impl Iterator<Item = String>, between: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let length = |text: &str| text.chars().count();
    // What stands at the end of a line needs room as well.
    let width = width.saturating_sub(length(between.trim_end()));
    for word in words {
        match lines.last_mut() {
            Some(line) if length(line) + length(between) + length(&word) <= width => {
                line.push_str(between);
                line.push_str(&word);
            }
            Some(line) => {
                line.push_str(between.trim_end());
                lines.push(word);
            }
            None => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StackFrames;

    fn stack(pid: u32, count: u64, kind: StackKind, frames: &[&str]) -> Stack {
        let frames = frames.iter().map(|&name| name.into()).collect();
        Stack { pid, comm: "server".into(), kind, count, frames }
    }

    fn example() -> Stacks {
        let start = ["_start", "__libc_start_main", "main", "serve(Request const&)"];
        let deep: Vec<String> = (0..40).map(|n| format!("recursion_number_{n}")).collect();
        let mut all = vec![
            stack(1, 700, StackKind::Copy, &[&start[..], &["beta"]].concat()),
            stack(2, 650, StackKind::Copy, &[&start[..], &["beta"]].concat()),
            stack(2, 300, StackKind::Copy, &[&start[..], &["alpha", "[/usr/lib/libx.so.1+0x1234]"]].concat()),
            stack(2, 20, StackKind::File, &deep.iter().map(String::as_str).collect::<Vec<_>>()),
            stack(2, 9, StackKind::Zero, &["[unknown]", "bad\x1b[31mname"]),
        ];
        all.extend((0..9).map(|n| stack(3, 1, StackKind::Copy, &["main", "many", &format!("f{n}")])));
        let stack_frames = StackFrames {
            frames: 120,
            unresolved: 2,
            pages: 1_688,
            pages_of_short_stacks: 9,
            pages_of_cut_stacks: 20,
        };
        Stacks { stacks: all, stack_frames }
    }

    fn shown(width: usize) -> String {
        let mut text = String::new();
        stacks(&mut text, &example(), Style { color: false, width });
        text
    }

    #[test]
    fn the_heaviest_stacks() {
        insta::assert_snapshot!(shown(100));
    }

    #[test]
    fn a_narrow_terminal_gets_more_lines() {
        let text = shown(50);
        assert!(text.lines().skip(2).all(|line| line.chars().count() <= 50), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn nothing_copied_is_said() {
        let mut text = String::new();
        stacks(&mut text, &Stacks::default(), Style { color: false, width: 80 });
        assert_eq!(text, "\nstacks   no copies\n");
    }
}
