//! smaps of the experiment's mapping before and after, and its pages.

use comfy_table::ContentArrangement;

use super::{
    super::{
        super::{printable, thousands},
        facts::{Seen, fault_rows, not_seen, seen, smaps_rows},
        page_map::{left_out_sentence, legend_sentence, shown},
        words::{count, dot},
    },
    INDENT, Page, cell, rendered,
};
use crate::lab::report::ExperimentReport;

/// Columns of a process at most: the first, and the last ones.
const CHECKPOINTS: usize = 8;

impl Page {
    /// smaps of the experiment's mapping and the counts in it, one column for each process and checkpoint.
    pub(super) fn smaps(&mut self, experiment: &ExperimentReport) {
        let seen = seen(experiment);
        if seen.is_empty() {
            self.paragraph("", &not_seen(experiment));
            self.line("");
            return;
        }
        let focus = experiment.focus;
        let text =
            format!("{focus} in smaps (kB), and what the tracer counted in it since the checkpoint before:");
        self.paragraph("", &text);
        let by_process: Vec<&[Seen<'_>]> = seen.chunk_by(|a, b| a.process.pid == b.process.pid).collect();
        let few = by_process.iter().all(|part| part.len() <= CHECKPOINTS);
        if few && self.fits(&seen) {
            let table = self.smaps_table(&seen, ContentArrangement::Dynamic);
            self.text.push_str(&table);
        } else {
            for part in by_process {
                self.smaps_of_process(part);
            }
        }
        self.line("");
    }

    /// As many checkpoints as fit: the first, and the last ones.
    fn smaps_of_process(&mut self, all: &[Seen<'_>]) {
        let mut most = all.len().min(CHECKPOINTS);
        let mut shown = ends(all, most);
        while most > 2 && !self.fits(&shown) {
            most -= 1;
            shown = ends(all, most);
        }
        let table = self.smaps_table(&shown, ContentArrangement::Dynamic);
        self.text.push_str(&table);
        let left_out = (all.len() - shown.len()) as u64;
        if left_out > 0 {
            let (role, first) = (all[0].process.role, &all[0].checkpoint.name);
            let checkpoints = count(left_out, "checkpoint", "checkpoints");
            let verb = if left_out == 1 { "is" } else { "are" };
            let text = format!("{role}: {checkpoints} after \"{first}\" {verb} left out here.");
            self.paragraph("", &text);
        }
    }

    fn fits(&self, columns: &[Seen<'_>]) -> bool {
        let table = self.smaps_table(columns, ContentArrangement::Disabled);
        table.lines().all(|line| super::visible(line) < self.style.width)
    }

    fn smaps_table(&self, columns: &[Seen<'_>], arrangement: ContentArrangement) -> String {
        let mut table = self.table();
        table.set_content_arrangement(arrangement);
        let mut who = vec![cell("")];
        let mut when = vec![cell("")];
        for Seen { checkpoint, process, .. } in columns {
            who.push(self.number(&format!("{} {}", process.role, process.pid)));
            when.push(self.faint(self.number(&checkpoint.name)));
        }
        table.add_row(who).add_row(when);
        for (name, sizes) in smaps_rows(columns) {
            let mut row = vec![cell(name)];
            row.extend(sizes.into_iter().map(|size| self.number(&thousands(size))));
            table.add_row(row);
        }
        for (name, counts) in fault_rows(columns) {
            let mut row = vec![self.strong(cell(name))];
            row.extend(counts.into_iter().map(|count| self.strong(self.number(&dot(count)))));
            table.add_row(row);
        }
        rendered(&table)
    }

    /// The mapping's pages, a letter each, where a line has room for them.
    pub(super) fn page_maps(&mut self, experiment: &ExperimentReport) {
        let (maps, left_out) = shown(&seen(experiment));
        let label = |entry: &Seen<'_>| format!("{}, {}", entry.process.role, entry.checkpoint.name);
        let pad = maps.iter().map(|entry| label(entry).chars().count()).max().unwrap_or(0);
        let room = self.style.width.saturating_sub(INDENT.len() + pad + 3);
        let pages = |entry: &Seen<'_>| entry.process.pages.as_ref().map_or(0, |map| map.state.len());
        if maps.is_empty() || maps.iter().any(|entry| pages(entry) > room) {
            return;
        }
        self.paragraph("", &legend_sentence(&maps));
        for entry in &maps {
            let Some(map) = &entry.process.pages else { continue };
            self.line(&format!("{INDENT}{:<pad$}  {}", printable(&label(entry)), map.state));
            if map.faulted.contains(|letter| letter != '.') {
                let faulted = map.faulted.replace('.', " ");
                let line = self.painted("1", faulted.trim_end());
                self.line(&format!("{INDENT}{:<pad$}  {line}", ""));
            }
        }
        if let Some(text) = left_out_sentence(left_out) {
            self.paragraph("", &text);
        }
        self.line("");
    }
}

/// The first, and the last ones; `most` in all.
fn ends<'a>(all: &[Seen<'a>], most: usize) -> Vec<Seen<'a>> {
    if all.len() <= most {
        return all.to_vec();
    }
    all.iter().take(1).chain(&all[all.len() - (most - 1)..]).copied().collect()
}
