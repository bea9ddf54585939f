//! A report held against the kernel's own counts, process by process.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    kernel::page_size,
    run::{MARKER_UID, number, processes, text},
    say,
    taskstats::Exited,
};

/// Kinds of faults that end with the page in place: each of them is a minor or major fault of the kernel's.
const SOLVED: [&str; 8] = ["copy", "zero", "file", "ksm", "hugetlb", "reuse", "shared", "anon"];

/// The outcome.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Processes that both know.
    pub processes: u64,
    /// Sum of the kernel's counts over them, where it counts copies.
    pub wpcopy: Option<u64>,
    /// What differs, a line each.
    pub differences: Vec<String>,
}

/// Compares all processes of a report that have ended with the kernel's. Of the kernel's, those with the marker's
/// user id must be in the report. Where the kernel counts no copies, its page faults are an upper limit.
pub fn compare(report: &Value, exited: &[Exited]) -> Result<Comparison> {
    let mut kernel: HashMap<u32, Vec<&Exited>> = HashMap::new();
    for process in exited {
        kernel.entry(process.pid).or_default().push(process);
    }
    let mut result = Comparison { wpcopy: Some(0), ..Comparison::default() };
    // Processes with one id follow each other, so both sides have them in the same order.
    let mut ours: HashMap<u32, Vec<&Value>> = HashMap::new();
    for process in processes(report)? {
        ours.entry(u32::try_from(number(process, "/pid")?)?).or_default().push(process);
    }
    for (pid, ours) in &ours {
        let ended: Vec<_> = ours.iter().filter(|process| !process["end_ns"].is_null()).collect();
        let theirs = kernel.remove(pid).unwrap_or_default();
        if ended.len() != theirs.len() {
            let names = theirs.iter().map(|process| process.comm.as_str()).collect::<Vec<_>>();
            result.differences.push(format!(
                "process {pid}: {} in the report, {} in the kernel's records ({names:?})",
                ended.len(),
                theirs.len()
            ));
            continue;
        }
        for (ours, theirs) in ended.iter().zip(theirs) {
            result.processes += 1;
            result.wpcopy = result.wpcopy.zip(theirs.wpcopy).map(|(sum, more)| sum + more);
            if let Some(difference) = difference(ours, theirs)? {
                let comm = text(ours, "/comm")?;
                result.differences.push(format!("process {pid} ({comm}): {difference}; {}", ours["faults"]));
            }
        }
    }
    for missing in kernel.into_values().flatten().filter(|process| process.uid == MARKER_UID) {
        result.differences.push(format!("missing in the report: {missing:?}"));
    }
    Ok(result)
}

/// What is not the same of a process.
fn difference(ours: &Value, theirs: &Exited) -> Result<Option<String>> {
    let Some(wpcopy) = theirs.wpcopy else {
        let solved = solved_faults(ours);
        let most = theirs.minflt + theirs.majflt;
        return Ok((solved > most).then(|| format!("cowtrace {solved} faults, kernel {most}")));
    };
    let counted = number(ours, "/wpcopy")?;
    Ok((counted != wpcopy).then(|| format!("cowtrace {counted}, kernel {wpcopy}")))
}

/// Faults of a process that were solved.
pub fn solved_faults(process: &Value) -> u64 {
    SOLVED.iter().filter_map(|kind| process["faults"][kind].as_u64()).sum()
}

impl Comparison {
    /// Prints the figures, in the words that `cargo xtask vm` looks for.
    pub fn say(&self, what: &str) {
        say(&format!("{what}: {}", self.figures()));
    }

    fn figures(&self) -> String {
        let (processes, differences) = (self.processes, self.differences.len());
        match self.wpcopy {
            Some(copies) => format!(
                "{processes} processes, {copies} copies by the kernel's count, {differences} differences"
            ),
            None => format!(
                "{processes} processes within the kernel's count of faults, {differences} differences"
            ),
        }
    }

    /// Fails if anything differs, with the first differences.
    pub fn exact(&self) -> Result<()> {
        let first = self.differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        ensure!(
            self.differences.is_empty(),
            "{} of {} differ:\n{first}",
            self.differences.len(),
            self.processes
        );
        Ok(())
    }
}

/// Makes sure that each fault of each process is in one of its regions; the result is how many there are.
pub fn regions_sum_up(report: &Value) -> Result<u64> {
    let mut faults = 0;
    for process in processes(report)? {
        let counts = process["faults"].as_object().context("faults is no object")?;
        let regions = process["regions"].as_array().context("regions is no list")?;
        for (kind, count) in counts {
            let sum = regions.iter().map(|region| region["faults"][kind].as_u64()).sum::<Option<u64>>();
            let known = count.as_u64();
            // Without regions the sum is 0, and `null` must stay `null` in each.
            let equal = if known.is_none() { regions.is_empty() || sum.is_none() } else { sum == known };
            ensure!(equal, "{kind} of process {}: {known:?} in all, {sum:?} in its regions", process["pid"]);
            faults += known.unwrap_or(0);
        }
    }
    Ok(faults)
}

/// Makes sure that what each fork cost is in its mappings. Where one side copies a page just when the other ends the sharing,
/// that one may be on another side of it.
pub fn forks_sum_up(report: &Value) -> Result<()> {
    let forks = report["forks"].as_array().context("forks is no list")?;
    let mut late = 0;
    for fork in forks.iter().filter(|fork| fork["kind"] == "fork") {
        let regions = fork["regions"].as_array().context("regions of a fork is no list")?;
        for side in ["parent_copied_bytes", "child_copied_bytes"] {
            // Not known on some kernels.
            let Some(bytes) = fork[side].as_u64() else { continue };
            let sum = regions.iter().map(|region| region[side].as_u64()).sum::<Option<u64>>();
            let sum = sum.context("bytes of a mapping are missing")?;
            ensure!(sum.abs_diff(bytes) <= page_size(), "{side} of {fork}: {sum} in its mappings");
            late += usize::from(sum != bytes);
        }
    }
    ensure!(
        late <= forks.len() / 100,
        "{late} of {} forks have not the pages of their mappings",
        forks.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(processes: &[(u32, u64)]) -> Value {
        let process = |&(pid, wpcopy): &(u32, u64)| {
            json!({"pid": pid, "comm": "x", "end_ns": 9, "wpcopy": wpcopy, "faults": {"copy": wpcopy, "pinned": null},
                   "regions": [{"faults": {"copy": wpcopy, "pinned": null}}]})
        };
        json!({"processes": processes.iter().map(process).collect::<Vec<_>>()})
    }

    fn exited(pid: u32, wpcopy: u64, uid: u32) -> Exited {
        Exited { pid, wpcopy: Some(wpcopy), uid, ..Exited::default() }
    }

    fn differences(report: &Value, exited: &[Exited]) -> usize {
        compare(report, exited).unwrap().differences.len()
    }

    #[test]
    fn each_difference_is_found() {
        let ours = report(&[(1, 5), (2, 7), (2, 8)]);
        let same = [exited(1, 5, 0), exited(2, 7, 0), exited(9, 1, 0), exited(2, 8, 0)];
        assert_eq!(differences(&ours, &same), 0);
        assert_eq!(compare(&ours, &same).unwrap().wpcopy, Some(20));
        assert_eq!(differences(&ours, &[exited(1, 6, 0), exited(2, 8, 0), exited(2, 7, 0)]), 3);
        // Missing in the kernel's records, and missing in the report.
        assert_eq!(differences(&ours, &same[..2]), 1);
        assert_eq!(differences(&report(&[(1, 5)]), &[exited(1, 5, 0), exited(3, 1, MARKER_UID)]), 1);
    }

    #[test]
    fn where_copies_are_not_counted_faults_are_a_limit() {
        let ours = report(&[(1, 5)]);
        let of = |minflt, majflt| [Exited { pid: 1, minflt, majflt, ..Exited::default() }];
        assert_eq!(differences(&ours, &of(4, 1)), 0);
        assert_eq!(differences(&ours, &of(4, 0)), 1);
        assert_eq!(compare(&ours, &of(9, 0)).unwrap().wpcopy, None);
    }

    #[test]
    fn figures_are_in_the_words_that_the_matrix_reads() {
        let mut comparison = Comparison { processes: 62, wpcopy: Some(712), differences: Vec::new() };
        assert_eq!(comparison.figures(), "62 processes, 712 copies by the kernel's count, 0 differences");
        comparison.wpcopy = None;
        assert_eq!(comparison.figures(), "62 processes within the kernel's count of faults, 0 differences");
    }

    #[test]
    fn a_fault_without_a_region_is_found() {
        let mut ours = report(&[(1, 5)]);
        assert_eq!(regions_sum_up(&ours).unwrap(), 5);
        ours["processes"][0]["regions"][0]["faults"]["copy"] = 4.into();
        assert!(regions_sum_up(&ours).is_err());
    }
}
