//! Stacks as flame-graph programs take them: one line for each, and a drawing.

use std::{collections::BTreeMap, fmt::Write as _, io};

use inferno::flamegraph;

use super::printable;
use crate::model::Stacks;

/// Brendan Gregg's folded format: `comm;function;function pages`, the outermost function first.
pub fn folded(stacks: &Stacks) -> String {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for stack in &stacks.stacks {
        *lines.entry(stack.name()).or_default() += stack.count;
    }
    let mut text = String::new();
    for (line, pages) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line} {pages}");
    }
    text
}

/// A flame graph in SVG, of pages.
pub fn flamegraph(stacks: &Stacks, title: &str) -> io::Result<Vec<u8>> {
    let mut options = flamegraph::Options::default();
    options.title = printable(title).into_owned();
    "pages".clone_into(&mut options.count_name);
    "Function:".clone_into(&mut options.name_type);
    options.deterministic = true;
    let folded = folded(stacks);
    // The format takes all characters but those that end a name or a line, XML does not.
    let lines: Vec<_> = folded.lines().map(printable).collect();
    let mut svg = Vec::new();
    match flamegraph::from_lines(&mut options, lines.iter().map(|line| &**line), &mut svg) {
        // Nothing was copied: the picture says that there is nothing to show.
        Err(_) if folded.is_empty() => Ok(svg),
        outcome => outcome.map(|()| svg),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Stack, StackFrames, StackKind};

    fn stack(pid: u32, count: u64, frames: &[&str]) -> Stack {
        let frames = frames.iter().map(|&name| name.into()).collect();
        Stack { pid, comm: "a b".into(), kind: StackKind::Copy, count, frames }
    }

    fn stacks(stacks: Vec<Stack>) -> Stacks {
        Stacks { stacks, stack_frames: StackFrames::default() }
    }

    #[test]
    fn lines_of_several_processes_are_added() {
        let stacks = stacks(vec![
            stack(1, 700, &["main", "beta"]),
            stack(2, 5, &["main", "alpha"]),
            stack(2, 300, &["main", "beta"]),
            stack(2, 1, &[]),
        ]);
        assert_eq!(folded(&stacks), "a b 1\na b;main;alpha 5\na b;main;beta 1000\n");
    }

    #[test]
    fn names_cannot_break_a_line() {
        let stacks = stacks(vec![stack(1, 2, &["f<[u8; 8]>", "a\nb"])]);
        assert_eq!(folded(&stacks), "a b;f<[u8: 8]>;a:b 2\n");
    }

    #[test]
    fn the_flame_graph_names_functions_and_pages() {
        let drawn = stacks(vec![stack(1, 700, &["main", "beta"]), stack(1, 300, &["main", "alpha"])]);
        let svg = String::from_utf8(flamegraph(&drawn, "Pages <copied>").unwrap()).unwrap();
        assert!(svg.contains("beta (700 pages, 70.00%)") && svg.contains("Pages &lt;copied&gt;"), "{svg}");
        let nothing = flamegraph(&stacks(Vec::new()), "nothing").unwrap();
        assert!(String::from_utf8(nothing).unwrap().contains("<svg"));
    }
}
