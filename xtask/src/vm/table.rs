//! The matrix as a table: for a terminal, and for docs/compatibility.md.

use std::fmt::Write as _;

use super::cell::{Cell, Outcome};

const HEADERS: [&str; 14] = [
    "kernel",
    "backend",
    "holds",
    "refuted",
    "differs",
    "unmeasurable",
    "residual",
    "processes",
    "copies",
    "mismatches",
    "passed",
    "failed",
    "skipped",
    "seconds",
];
/// Columns of words; the others have figures.
const WORDS: usize = 2;

/// A line of the table: kernel and backend, then either figures or a word on why there are none.
struct Line {
    names: [String; WORDS],
    rest: Result<Vec<String>, String>,
}

/// As lines of text.
pub fn text(cells: &[Cell]) -> String {
    let lines = lines(cells);
    let width = |column: usize| {
        let of_line = |line: &Line| match (column, &line.rest) {
            (0..WORDS, _) => line.names[column].len(),
            (_, Ok(figures)) => figures[column - WORDS].len(),
            (_, Err(_)) => 0,
        };
        lines.iter().map(of_line).max().unwrap_or(0).max(HEADERS[column].len())
    };
    let widths: Vec<usize> = (0..HEADERS.len()).map(width).collect();
    let mut text = String::new();
    let mut put = |names: &[String], rest: &Result<Vec<String>, String>| {
        let mut line = String::new();
        for (name, width) in names.iter().zip(&widths) {
            let _ = write!(line, "{name:<width$}  ");
        }
        match rest {
            Ok(figures) => {
                for (figure, width) in figures.iter().zip(&widths[WORDS..]) {
                    let _ = write!(line, "{figure:>width$}  ");
                }
            }
            Err(word) => line.push_str(word),
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let headers = HEADERS.map(str::to_owned);
    put(&headers[..WORDS], &Ok(headers[WORDS..].to_vec()));
    lines.iter().for_each(|line| put(&line.names, &line.rest));
    text
}

/// As Markdown.
pub fn markdown(cells: &[Cell]) -> String {
    let figures = HEADERS.len() - WORDS;
    let mut text =
        format!("| {} |\n|{}{}\n", HEADERS.join(" | "), "---|".repeat(WORDS), "--:|".repeat(figures));
    for line in lines(cells) {
        let rest = match line.rest {
            Ok(figures) => figures.join(" | "),
            Err(word) => format!("{word}{}", " |".repeat(figures - 1)),
        };
        let _ = writeln!(text, "| {} | {rest} |", line.names.join(" | "));
    }
    text
}

fn lines(cells: &[Cell]) -> Vec<Line> {
    cells
        .iter()
        .map(|cell| Line { names: [kernel(cell, cells), cell.backend.clone()], rest: rest(cell) })
        .collect()
}

/// The kernel's version where a lab of its row tells it.
fn kernel(cell: &Cell, cells: &[Cell]) -> String {
    let release = |other: &Cell| match &other.outcome {
        Outcome::Ran(ran) if other.row == cell.row => Some(ran.lab.as_ref()?.release.clone()),
        _ => None,
    };
    cells.iter().find_map(release).unwrap_or_else(|| cell.row.clone())
}

fn rest(cell: &Cell) -> Result<Vec<String>, String> {
    let ran = match &cell.outcome {
        Outcome::Refused(why) => return Err(format!("refused: {}", short(why))),
        Outcome::Broken(why) => return Err(format!("broken: {}", short(why))),
        Outcome::Ran(ran) => ran,
    };
    let lab = ran.lab.as_ref();
    let of_lab = |figure: Option<usize>| figure.map_or_else(|| "–".to_owned(), |figure| figure.to_string());
    let verdicts = ["holds", "refuted", "differs", "unmeasurable"];
    let mut figures: Vec<String> = verdicts.map(|verdict| of_lab(lab.map(|lab| lab.count(verdict)))).into();
    figures
        .push(lab.map_or_else(|| "–".to_owned(), |lab| lab.residual_pages.values().sum::<u64>().to_string()));
    let (tests, compared) = (&ran.tests, &ran.tests.compared);
    let shown = |count: u64| if count == 0 { "–".to_owned() } else { count.to_string() };
    figures.extend([shown(compared.processes), shown(compared.copies), compared.differences.to_string()]);
    // To the test program, a test that skips itself has passed.
    let passed = tests.passed.map(|passed| passed.saturating_sub(tests.skipped));
    figures.push(passed.map_or_else(|| "–".to_owned(), |passed| passed.to_string()));
    figures.extend([tests.failed, tests.skipped].map(|count| count.to_string()));
    figures.push(cell.seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.0}")));
    Ok(figures)
}

/// Enough of a message to know it again.
fn short(message: &str) -> String {
    const LETTERS: usize = 90;
    let message = message.trim_start_matches("cowtrace: ");
    let message = message.split(" does not work here: ").last().unwrap_or(message);
    let cut: String = message.chars().take(LETTERS).collect();
    if cut.len() < message.len() { format!("{}…", cut.trim_end()) } else { cut }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            cell::{
                self,
                tests::{console, row},
            },
            lab::tests::document,
        },
        *,
    };

    fn cells() -> Vec<Cell> {
        let rows = [row("6.1", &["fentry", "tracepoint", "kprobe"])];
        cell::read(&rows[0], &console(), &document("fentry", 17), Some("killed after 300 s"))
    }

    #[test]
    fn a_table_has_a_line_for_each_backend() {
        assert_eq!(
            text(&cells()),
            "kernel    backend     holds  refuted  differs  unmeasurable  residual  processes  copies  mismatches  passed  failed  skipped  seconds\n\
             6.12.107  fentry          2        1        0             1         0        124    1425           0      11       0        1       40\n\
             6.12.107  tracepoint  refused: needs Linux 6.2\n\
             6.12.107  kprobe      broken: killed after 300 s\n"
        );
    }

    #[test]
    fn markdown_has_the_same_cells() {
        let text = markdown(&cells());
        let columns: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(columns, [HEADERS.len() + 1; 5], "{text}");
        assert!(
            text.contains("| 6.12.107 | fentry | 2 | 1 | 0 | 1 | 0 | 124 | 1425 | 0 | 11 | 0 | 1 | 40 |"),
            "{text}"
        );
        assert!(text.contains("| refused: needs Linux 6.2 | |"), "{text}");
    }

    #[test]
    fn long_reasons_are_cut() {
        let why = format!("cowtrace: the kprobe backend does not work here: {}", "x ".repeat(90));
        let word = short(&why);
        assert!(word.starts_with("x x") && word.ends_with('…') && word.chars().count() <= 91, "{word}");
    }
}
