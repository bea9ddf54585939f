//! The lab's report as Markdown (GitHub's): the charts are files beside it.

use std::fmt::Write as _;

use super::{
    super::{is_printable, thousands},
    chart::{self, svg},
    facts::{
        Totals, did_not_move, fault_rows, interruption, not_seen, pages_moved, role, seen, smaps_rows, steps,
        to_explain,
    },
    page_map::{as_runs, left_out_sentence, legend_sentence, named, shown},
    words::{
        VERDICTS, backend, blind_to, dot, duration, figure, kernel, mapping, mark, meaning, moves, source,
        word,
    },
};
use crate::lab::{
    Bytes, LabReport,
    report::{Curve, ExperimentReport, Figures, PageMap},
};

/// Pages in a line of a map.
const MAP_LINE: usize = 64;
/// Up to so many pages, a map is never told in runs.
const MAP_WHOLE: usize = 128;
/// Points of a curve in its table.
const CURVE_ROWS: usize = 24;

/// A document, and the pictures that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markdown {
    /// The document.
    pub text: String,
    /// Name and content of each picture; the document looks for them in the folder that it was told.
    pub figures: Vec<(String, String)>,
}

/// The whole report; `folder` is the name of the folder beside it where its pictures will be.
pub fn markdown(report: &LabReport, folder: &str) -> Markdown {
    let mut document = Document { text: String::new(), figures: Vec::new(), folder: link(folder) };
    document.header(report);
    for experiment in &report.experiments {
        document.experiment(experiment);
    }
    Markdown { text: document.text, figures: document.figures }
}

struct Document {
    text: String,
    figures: Vec<(String, String)>,
    folder: String,
}

impl Document {
    fn header(&mut self, report: &LabReport) {
        let totals = Totals::new(report);
        self.block("# cowtrace lab");
        if let Some(text) = interruption(report) {
            self.block(&format!("> **{}**", escaped(&text)));
        }
        let (kernel, backend, blind) =
            (kernel(&report.kernel), backend(&report.backend), blind_to(&report.backend));
        let facts =
            [("Kernel", kernel.as_str()), ("Backend", backend), ("It does not see", &blind.join("; "))];
        let facts: Vec<String> = facts
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| format!("- {name}: {}", escaped(text)))
            .collect();
        self.block(&facts.join("\n"));
        if report.experiments.is_empty() {
            return;
        }
        let mut text = totals.claims_sentence(report);
        if let Some(sentence) = totals.verdicts_sentence(report) {
            text.push_str(&format!(" {sentence}"));
        }
        self.paragraph(&format!("{text} {}", totals.ledger_sentence()));
        self.block("## Summary");
        let verdicts = totals.occurring();
        let mut header = vec!["experiment".to_owned(), "claims".to_owned()];
        header.extend(verdicts.iter().map(|verdict| word(*verdict).to_owned()));
        header.extend(["pages moved", "residual", "time"].map(str::to_owned));
        let rows = report.experiments.iter().map(|experiment| {
            let mut row = vec![Cell::link(experiment.id), Cell::from(experiment.claims.len().to_string())];
            row.extend(verdicts.iter().map(|verdict| Cell::from(dot(experiment.count(*verdict) as u64))));
            row.push(dot(pages_moved(experiment)).into());
            row.push(dot(experiment.residual_pages()).into());
            row.push(duration(experiment.duration_ms).into());
            row
        });
        self.table(&header, &right_from(1, header.len()), rows.collect());
        let key = VERDICTS.into_iter().filter(|verdict| verdicts.contains(verdict));
        let key: Vec<String> = key.map(|v| format!("- {} {}: {}", mark(v), word(v), meaning(v))).collect();
        self.block(&key.join("\n"));
    }

    fn experiment(&mut self, experiment: &ExperimentReport) {
        self.block(&format!("## {}", experiment.id));
        self.block(&format!("**{}**", escaped(experiment.title)));
        let size = experiment.size_bytes.map_or_else(String::new, |b| format!(", {} of memory", Bytes(b)));
        self.paragraph(&format!("{}, {}{size}", source(experiment.source), duration(experiment.duration_ms)));
        self.block(&format!("**What is done.** {}", escaped(experiment.about)));
        self.block(&format!("**What to expect.** {}", escaped(experiment.expect)));
        self.block("**What happened.**");
        self.claims(experiment);
        for (index, curve) in experiment.curves.iter().enumerate() {
            self.curve(curve, &format!("{}-{}.svg", experiment.id, index + 1));
        }
        for figures in &experiment.tables {
            self.figures(figures);
        }
        self.smaps(experiment);
        self.page_maps(experiment);
        self.ledger(experiment);
        self.block(&format!("**What it shows.** {}", escaped(experiment.lesson)));
    }

    fn claims(&mut self, experiment: &ExperimentReport) {
        let header = ["verdict", "claim", "expected", "measured", "unit"].map(str::to_owned);
        let rows = experiment.claims.iter().map(|claim| {
            let amiss = if claim.as_it_should() { "" } else { ", not as it should be" };
            vec![
                format!("{} {}{amiss}", mark(claim.verdict), word(claim.verdict)).into(),
                claim.claim.clone().into(),
                figure(&claim.expected).into(),
                figure(&claim.measured).into(),
                claim.unit.to_owned().into(),
            ]
        });
        self.table(&header, &[false, false, true, true, false], rows.collect());
        let reasons = to_explain(&experiment.claims).map(|claim| {
            let (claim_text, why) = (escaped(&claim.claim), escaped(&claim.why));
            format!("- {} **{claim_text}** {}: {why}", mark(claim.verdict), word(claim.verdict))
        });
        let reasons: Vec<String> = reasons.collect();
        self.block(&reasons.join("\n"));
    }

    fn curve(&mut self, curve: &Curve, name: &str) {
        let title = escaped(&curve.title);
        self.block(&format!("**{title}**"));
        self.block(&format!("![{}]({}/{name})", escaped(&chart::described(curve)), self.folder));
        let (header, rows) = chart::table(curve, CURVE_ROWS);
        let rows = rows.into_iter().map(|row| row.into_iter().map(Cell::from).collect()).collect();
        self.folded("The figures behind it", |document| {
            document.table(&header, &right_from(1, header.len()), rows);
        });
        self.figures.push((name.to_owned(), svg::file(curve)));
    }

    fn figures(&mut self, figures: &Figures) {
        self.block(&format!("**{}**", escaped(&figures.title)));
        let rows = figures.rows.iter().map(|row| row.iter().cloned().map(Cell::from).collect());
        self.table(&figures.columns, &right_from(1, figures.columns.len()), rows.collect());
    }

    fn smaps(&mut self, experiment: &ExperimentReport) {
        let seen = seen(experiment);
        if seen.is_empty() {
            self.paragraph(&not_seen(experiment));
            return;
        }
        self.block(&format!(
            "`{}` in smaps (kB), and what the tracer counted in it since the checkpoint before:",
            experiment.focus
        ));
        let places = seen.iter().map(|entry| format!("{}, {}", entry.process.role, entry.checkpoint.name));
        let header: Vec<String> = std::iter::once(String::new()).chain(places).collect();
        let sizes = smaps_rows(&seen).into_iter().map(|(name, sizes)| {
            let sizes = sizes.into_iter().map(|size| thousands(size).into());
            std::iter::once(name.to_owned().into()).chain(sizes).collect()
        });
        let counts = fault_rows(&seen).into_iter().map(|(name, counts)| {
            let counts = counts.into_iter().map(|count| dot(count).into());
            std::iter::once(name.to_owned().into()).chain(counts).collect()
        });
        self.table(&header, &right_from(1, header.len()), sizes.chain(counts).collect());
    }

    fn page_maps(&mut self, experiment: &ExperimentReport) {
        let (maps, left_out) = shown(&seen(experiment));
        if maps.is_empty() {
            return;
        }
        self.paragraph(&legend_sentence(&maps));
        let mut text = String::from("```text\n");
        for entry in &maps {
            let Some(map) = &entry.process.pages else { continue };
            let _ = writeln!(text, "{}, {}", entry.process.role, entry.checkpoint.name);
            text.push_str(&map_lines(map));
        }
        text.push_str("```");
        self.block(&text);
        if let Some(text) = left_out_sentence(left_out) {
            self.paragraph(&text);
        }
    }

    fn ledger(&mut self, experiment: &ExperimentReport) {
        let (steps, still) = steps(experiment);
        let header = ["process", "mapping", "Private_Dirty, kB", "pages, by events", "residual"];
        for step in &steps {
            let title = format!("Ledger, {} → {}", step.from, step.to);
            let rows = step.rows.iter().map(|row| {
                let [before, after] = row.private_dirty_kb.map(thousands);
                vec![
                    role(experiment, row.pid).into(),
                    mapping(&row.region, &row.perms).into(),
                    format!("{before} → {after}").into(),
                    moves(&[row]).into(),
                    dot(row.residual_pages.unsigned_abs()).into(),
                ]
            });
            let rows = rows.collect();
            self.folded(&title, |document| {
                document.table(&header.map(str::to_owned), &[false, false, true, false, true], rows);
            });
        }
        if let Some(text) = did_not_move(steps.len(), still) {
            self.paragraph(&text);
        }
    }

    fn folded(&mut self, title: &str, content: impl FnOnce(&mut Self)) {
        let title = title.replace('&', "&amp;").replace('<', "&lt;");
        self.block(&format!("<details><summary>{title}</summary>"));
        content(self);
        self.block("</details>");
    }

    fn table(&mut self, header: &[String], right: &[bool], rows: Vec<Vec<Cell>>) {
        if rows.is_empty() {
            return;
        }
        let header: Vec<String> = header.iter().map(|text| escaped(text)).collect();
        let rule: Vec<&str> = right.iter().map(|right| if *right { "---:" } else { "---" }).collect();
        let mut text = format!("| {} |\n| {} |", header.join(" | "), rule.join(" | "));
        for row in rows {
            let cells: Vec<String> = row.into_iter().map(|Cell(text)| text).collect();
            text.push_str(&format!("\n| {} |", cells.join(" | ")));
        }
        self.block(&text);
    }

    fn paragraph(&mut self, text: &str) {
        self.block(&escaped(text));
    }

    fn block(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// A map as runs, or as lines of letters, each with the faults below it.
fn map_lines(map: &PageMap) -> String {
    let mut text = String::new();
    if let Some(runs) = as_runs(map, MAP_WHOLE) {
        for run in runs {
            let _ = writeln!(text, "  pages {} to {}: {}", run.first, run.first + run.pages - 1, named(run));
        }
        return text;
    }
    let faulted = map.faulted.replace('.', " ");
    // One letter, one byte.
    for (states, faults) in map.state.as_bytes().chunks(MAP_LINE).zip(faulted.as_bytes().chunks(MAP_LINE)) {
        let _ = writeln!(text, "  {}", String::from_utf8_lossy(states));
        let faults = String::from_utf8_lossy(faults);
        if !faults.trim().is_empty() {
            let _ = writeln!(text, "  {}", faults.trim_end());
        }
    }
    text
}

/// A cell's text, escaped.
struct Cell(String);

impl Cell {
    /// A link to the heading of this name.
    fn link(id: &str) -> Cell {
        Cell(format!("[{id}](#{id})"))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell(escaped(&text))
    }
}

/// Columns from `first` on are numbers.
fn right_from(first: usize, columns: usize) -> Vec<bool> {
    (0..columns).map(|index| index >= first).collect()
}

/// A file's name as a link has it.
fn link(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Text that Markdown shows as it is; on one line.
fn escaped(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    for (index, &letter) in letters.iter().enumerate() {
        let beside =
            |at: Option<usize>| at.and_then(|at| letters.get(at)).is_some_and(|c| c.is_alphanumeric());
        // Between letters an underscore is one: Private_Dirty.
        let inside = beside(index.checked_sub(1)) && beside(Some(index + 1));
        match letter {
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '<' | '>' | '|' | '~' | '&' | '[' | ']' | '$' => out.extend(['\\', letter]),
            '_' if !inside => out.extend(['\\', letter]),
            _ if !is_printable(letter) => out.push('\u{fffd}'),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{escaped, link};

    #[test]
    fn text_stays_as_it_is() {
        assert_eq!(escaped("Private_Dirty of [heap]"), r"Private_Dirty of \[heap\]");
        assert_eq!(escaped("a|b <img> *x* _y_ `z`\nc"), r"a\|b \<img\> \*x\* \_y\_ \`z\` c");
        assert_eq!(link("my lab.figures"), "my%20lab.figures");
    }
}
