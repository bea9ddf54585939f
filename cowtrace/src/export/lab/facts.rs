//! What all forms of the lab's report tell: what they show of an experiment, and the totals.

use super::{
    super::thousands,
    words::{VERDICTS, count, duration, word},
};
use crate::{
    lab::{
        LabReport,
        claims::{Claim, Verdict},
        report::{CheckpointReport, ExperimentReport, LedgerRow, ProcessReport},
    },
    ledger::Row,
    proc::Vma,
};

type SmapsLine = (&'static str, fn(&Vma) -> u64, bool);

/// The lines of an smaps block that the lab is about: always shown, or only where they are not 0.
const SMAPS: [SmapsLine; 10] = [
    ("Size", |vma| vma.size_kb, true),
    ("Rss", |vma| vma.rss_kb, true),
    ("Pss", |vma| vma.pss_kb, true),
    ("Shared_Clean", |vma| vma.shared_clean_kb, true),
    ("Shared_Dirty", |vma| vma.shared_dirty_kb, true),
    ("Private_Clean", |vma| vma.private_clean_kb, true),
    ("Private_Dirty", |vma| vma.private_dirty_kb, true),
    ("Anonymous", |vma| vma.anonymous_kb, true),
    ("Shared_Hugetlb", |vma| vma.shared_hugetlb_kb, false),
    ("Private_Hugetlb", |vma| vma.private_hugetlb_kb, false),
];

/// Kinds of faults: always shown, or only where they occurred.
const FAULTS: [(&str, &str, bool); 10] = [
    ("anon", "first touches", true),
    ("copy", "copies", true),
    ("zero", "zero page", false),
    ("file", "file copies", false),
    ("ksm", "KSM copies", false),
    ("hugetlb", "hugetlb copies", false),
    ("pinned", "pinned copies", false),
    ("reuse", "reuses", false),
    ("shared", "shared writes", false),
    ("denied", "denied", false),
];

/// The experiment's mapping in one process at one checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub checkpoint: &'a CheckpointReport,
    pub process: &'a ProcessReport,
    pub vma: &'a Vma,
}

/// Where the experiment's mapping was seen: process by process, each by checkpoint.
pub(super) fn seen(experiment: &ExperimentReport) -> Vec<Seen<'_>> {
    let mut seen: Vec<Seen<'_>> = Vec::new();
    for checkpoint in &experiment.checkpoints {
        for process in &checkpoint.processes {
            if let Some(vma) = &process.smaps {
                seen.push(Seen { checkpoint, process, vma });
            }
        }
    }
    // By role: a child's number may be the smaller one.
    let order: Vec<u32> =
        experiment.checkpoints.iter().flat_map(|c| &c.processes).map(|process| process.pid).collect();
    seen.sort_by_key(|entry| order.iter().position(|&pid| pid == entry.process.pid));
    seen
}

/// What is said where the mapping was nowhere seen.
pub(super) fn not_seen(experiment: &ExperimentReport) -> String {
    let last = experiment.checkpoints.last().and_then(|checkpoint| checkpoint.processes.first());
    let mappings = last.map_or(0, |process| process.mappings);
    format!("smaps lists {mappings} mappings, and none of them is {}.", experiment.focus)
}

/// The rows of smaps: a name, and a size in kB for each place.
pub(super) fn smaps_rows(seen: &[Seen<'_>]) -> Vec<(&'static str, Vec<u64>)> {
    SMAPS
        .into_iter()
        .filter_map(|(name, size, always)| {
            let sizes: Vec<u64> = seen.iter().map(|entry| size(entry.vma)).collect();
            (always || sizes.iter().any(|&size| size > 0)).then_some((name, sizes))
        })
        .collect()
}

/// The rows of fault counts: a name, and a count for each place.
pub(super) fn fault_rows(seen: &[Seen<'_>]) -> Vec<(&'static str, Vec<u64>)> {
    FAULTS
        .into_iter()
        .filter_map(|(kind, name, always)| {
            let counts = seen.iter().map(|entry| entry.process.faults.get(kind).copied().unwrap_or(0));
            let counts: Vec<u64> = counts.collect();
            (always || counts.iter().any(|&count| count > 0)).then_some((name, counts))
        })
        .collect()
}

/// The ledger from one checkpoint to the next: only mappings that moved.
pub(super) struct Step<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub rows: Vec<&'a Row>,
}

/// The ledger's steps in which something moved, and how many rows did not.
pub(super) fn steps(experiment: &ExperimentReport) -> (Vec<Step<'_>>, usize) {
    let moved = |entry: &&LedgerRow| {
        let [before, after] = entry.row.private_dirty_kb;
        before != after || !entry.row.explained_pages.is_empty() || entry.row.residual_pages != 0
    };
    let rows: Vec<&LedgerRow> = experiment.ledger.iter().filter(moved).collect();
    let still = experiment.ledger.len() - rows.len();
    let parts = rows.chunk_by(|a, b| a.between == b.between).map(|step| Step {
        from: &step[0].between[0],
        to: &step[0].between[1],
        rows: step.iter().map(|entry| &entry.row).collect(),
    });
    (parts.collect(), still)
}

/// What is said of the rows that did not move.
pub(super) fn did_not_move(steps: usize, still: usize) -> Option<String> {
    match (steps, still) {
        (0, _) => Some(format!("Private_Dirty did not move in any mapping that has some ({still}).")),
        (_, 0) => None,
        (_, 1) => Some("1 more mapping has some, and did not move.".to_owned()),
        _ => Some(format!("{still} more mappings have some, and did not move.")),
    }
}

/// The rows of a step that are worth a line, in their order, and the rest: what is not explained, then what
/// moved most.
pub(super) fn foremost<'a>(rows: &[&'a Row], most: usize) -> (Vec<&'a Row>, Vec<&'a Row>) {
    if rows.len() <= most {
        return (rows.to_vec(), Vec::new());
    }
    let weight = |row: &Row| {
        let moved = row.private_dirty_kb[0].abs_diff(row.private_dirty_kb[1]);
        (row.residual_pages.unsigned_abs(), moved)
    };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(weight(rows[index])));
    // One line is for the rest.
    let kept: Vec<usize> = order.into_iter().take(most.saturating_sub(1)).collect();
    let part = |keep: bool| {
        let chosen = rows.iter().enumerate().filter(|(index, _)| kept.contains(index) == keep);
        chosen.map(|(_, row)| *row).collect()
    };
    (part(true), part(false))
}

/// `Private_Dirty` of several rows together, and their pages that stay unexplained.
pub(super) fn sum(rows: &[&Row]) -> ([u64; 2], u64) {
    let kb = [0, 1].map(|side| rows.iter().map(|row| row.private_dirty_kb[side]).sum());
    (kb, rows.iter().map(|row| row.residual_pages.unsigned_abs()).sum())
}

/// What a process is called.
pub(super) fn role(experiment: &ExperimentReport, pid: u32) -> String {
    let known = experiment.checkpoints.iter().flat_map(|c| &c.processes).find(|process| process.pid == pid);
    known.map_or_else(|| pid.to_string(), |process| process.role.to_owned())
}

/// Claims whose reason must be read: all that do not hold, or should not.
pub(super) fn to_explain(claims: &[Claim]) -> impl Iterator<Item = &Claim> {
    claims.iter().filter(|claim| claim.verdict != Verdict::Holds || !claim.as_it_should())
}

/// Pages by which `Private_Dirty` moved, up or down.
pub(super) fn pages_moved(experiment: &ExperimentReport) -> u64 {
    let moved = |row: &LedgerRow| (row.row.residual_pages + row.row.explained_pages.total()).unsigned_abs();
    experiment.ledger.iter().map(moved).sum()
}

/// Claims that did not come out as they should.
pub(super) fn amiss(experiment: &ExperimentReport) -> usize {
    experiment.claims.iter().filter(|claim| !claim.as_it_should()).count()
}

/// All experiments together.
pub(super) struct Totals {
    pub claims: u64,
    /// By verdict, in the order of [`VERDICTS`].
    pub verdicts: [u64; 4],
    pub moved: u64,
    pub residual: u64,
    pub duration_ms: u64,
}

impl Totals {
    pub fn new(report: &LabReport) -> Totals {
        let all = |count: &dyn Fn(&ExperimentReport) -> u64| report.experiments.iter().map(count).sum();
        Totals {
            claims: all(&|e| e.claims.len() as u64),
            verdicts: VERDICTS.map(|verdict| all(&|e| e.count(verdict) as u64)),
            moved: all(&pages_moved),
            residual: all(&ExperimentReport::residual_pages),
            duration_ms: all(&|e| e.duration_ms),
        }
    }

    /// Verdicts that occur, and `holds` always.
    pub fn occurring(&self) -> Vec<Verdict> {
        let pairs = VERDICTS.into_iter().zip(self.verdicts);
        pairs
            .filter(|(verdict, n)| *verdict == Verdict::Holds || *n > 0)
            .map(|(verdict, _)| verdict)
            .collect()
    }

    /// `5 experiments in 2.1 s, 46 claims: all hold.`
    pub fn claims_sentence(&self, report: &LabReport) -> String {
        let experiments = count(report.experiments.len() as u64, "experiment", "experiments");
        let claims = count(self.claims, "claim", "claims");
        let [held, refuted, differs, unmeasurable] = self.verdicts;
        let verdicts = if held == self.claims {
            "all hold".to_owned()
        } else {
            let mut parts = vec![format!("{} {}", thousands(held), if held == 1 { "holds" } else { "hold" })];
            if refuted > 0 {
                let verb = if refuted == 1 { "is" } else { "are" };
                parts.push(format!("{} {verb} {}", thousands(refuted), word(Verdict::Refuted)));
            }
            if differs > 0 {
                let verb = if differs == 1 { "differs" } else { "differ" };
                parts.push(format!("{} {verb} on this kernel or setting", thousands(differs)));
            }
            if unmeasurable > 0 {
                parts.push(format!("{} cannot be measured here", thousands(unmeasurable)));
            }
            parts.join(", ")
        };
        format!("{experiments} in {}, {claims}: {verdicts}.", duration(self.duration_ms))
    }

    /// Whether the verdicts are those that a right tracer gives.
    pub fn verdicts_sentence(&self, report: &LabReport) -> Option<String> {
        let wrong: Vec<String> = report
            .experiments
            .iter()
            .filter(|experiment| amiss(experiment) > 0)
            .map(|experiment| format!("{} ({})", experiment.id, amiss(experiment)))
            .collect();
        if !wrong.is_empty() {
            return Some(format!("Not as it should be: claims of {}.", wrong.join(", ")));
        }
        (self.verdicts[1] > 0).then(|| {
            "What is refuted is wrong in its source, and the measurement shows what is true instead."
                .to_owned()
        })
    }

    /// `All 182 pages by which Private_Dirty moved are explained.`
    pub fn ledger_sentence(&self) -> String {
        match self.residual {
            0 => format!("All {} pages by which Private_Dirty moved are explained.", thousands(self.moved)),
            1 => "1 page of Private_Dirty stays unexplained: the counts are not right.".to_owned(),
            pages => format!(
                "{} pages of Private_Dirty stay unexplained: the counts are not right.",
                thousands(pages)
            ),
        }
    }
}

/// What is said of a lab that a signal ended.
pub(super) fn interruption(report: &LabReport) -> Option<String> {
    let signal = report.interrupted_by?.as_str();
    let (whole, selected) = (report.experiments.len(), report.selected);
    let verb = if whole == 1 { "is" } else { "are" };
    Some(format!(
        "Interrupted by {signal}: {whole} of {selected} experiments {verb} whole and shown here; the one that \
         was under way, and those after it, are left out."
    ))
}
