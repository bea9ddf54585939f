//! Whether the matrix is as it should be: each cell for itself, and all of them beside each other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    cell::{Cell, Outcome, Ran},
    lab::{Claim, Lab},
    plan::{self, ARTICLE_STEPS, Expected, Row},
};

/// The judgement.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What is wrong, a line each.
    pub problems: Vec<String>,
    /// What differs, and why that is as it should be.
    pub explained: Vec<String>,
}

/// In claims that count the stack and the C library's memory as well, which lie elsewhere in each process.
const EVERY_MAPPING: &str = "all mappings";
/// So much of what the lab says about a claim is shown.
const SHOWN: usize = 3;

/// Judges all cells of these rows.
pub fn judge(rows: &[Row], cells: &[Cell]) -> Judgement {
    let mut judgement = Judgement::default();
    for row in rows {
        // What is counted in pages is comparable where pages are alike.
        let alike = |cell: &&Cell| {
            rows.iter().any(|other| other.name == cell.row && other.line.page_kb == row.line.page_kb)
        };
        let reference = Reference::of(cells.iter().filter(alike));
        for cell in cells.iter().filter(|cell| cell.row == row.name) {
            let name = format!("{} {}", cell.row, cell.backend);
            let before = judgement.problems.len();
            judgement.cell(row, cell, &reference);
            for problem in &mut judgement.problems[before..] {
                *problem = format!("{name}: {problem}");
            }
        }
    }
    judgement
}

impl Judgement {
    fn cell(&mut self, row: &Row, cell: &Cell, reference: &Reference) {
        match (&cell.outcome, plan::expected(&row.name, &cell.backend)) {
            (Outcome::Broken(why), _) => self.problems.push(why.clone()),
            (Outcome::Refused(why), Expected::Refused(words)) if why.contains(words) => {}
            (Outcome::Refused(why), Expected::Refused(words)) => {
                self.problems.push(format!("refused as expected, but without a word of {words:?}: {why}"));
            }
            (Outcome::Refused(why), Expected::Works) => self.problems.push(format!("refused: {why}")),
            (Outcome::Ran(_), Expected::Refused(words)) => {
                self.problems.push(format!("not refused, though a refusal ({words}) is expected"));
            }
            (Outcome::Ran(ran), Expected::Works) => {
                if !row.lab.is_empty() {
                    self.lab(row, cell, ran, reference);
                }
                self.tests(row, cell, ran);
            }
        }
    }

    fn lab(&mut self, row: &Row, cell: &Cell, ran: &Ran, reference: &Reference) {
        let Some(lab) = &ran.lab else {
            let status = ran.lab_status.map_or("no status".to_owned(), |status| format!("status {status}"));
            return self.problems.push(format!("no result of the lab ({status}): {}", ran.said.join(" ")));
        };
        let missing: Vec<&str> =
            row.lab.iter().filter(|id| !lab.experiments.contains(id)).map(String::as_str).collect();
        if !missing.is_empty() {
            self.problems.push(format!("experiments that did not run: {}", missing.join(", ")));
        }
        // Nothing holds of an experiment in which the kernel skipped runs of programs, where it may: but the report says so.
        let skipped = |name: &str| {
            let id = name.split(':').next().unwrap_or(name);
            plan::may_lose_runs(&row.name, &cell.backend) && lab.lost.contains_key(id)
        };
        for (id, lost) in &lab.lost {
            if skipped(id) {
                let why =
                    "runs of preempted programs that the kernel skipped; the report counts them as lost";
                self.explained.push(format!("{} {}: {id}: {lost} {why}", cell.row, cell.backend));
            } else {
                self.problems.push(format!("{id}: the tracer lost {lost}"));
            }
        }
        for (id, pages) in lab.residual_pages.iter().filter(|(id, _)| !skipped(id)) {
            self.problems.push(format!("{id}: {pages} pages of the ledger are not explained"));
        }
        let mut wrong = 0;
        for (name, claim) in &lab.claims {
            let Some(difference) = reference.difference(name, claim) else { continue };
            wrong += usize::from(claim.is_measured());
            if skipped(name) {
                continue;
            }
            match plan::explained(&row.name, &cell.backend, name) {
                Some(why) => self.explained.push(format!("{} {}: {name}: {why}", cell.row, cell.backend)),
                None => self.problems.push(format!("{name}: {difference}")),
            }
        }
        for (name, count) in lab.counts.iter().filter(|(name, _)| !skipped(name)) {
            if let Some(other) = reference.counts.get(name).filter(|other| *other != count) {
                self.problems.push(format!("{name}: {count} in the heap, {other} elsewhere"));
            }
        }
        // Which ones are wrong is known by comparison only; if it is wrong everywhere, the lab's status still tells.
        let excused = lab.residual_pages.keys().any(|id| skipped(id));
        if ran.lab_status != Some(0) && wrong == 0 && !excused {
            let refuted = lab.claims.iter().filter(|(_, claim)| claim.verdict == "refuted");
            let some: Vec<String> =
                refuted.take(SHOWN).map(|(name, claim)| format!("{name}: {}", claim.why)).collect();
            let status = ran.lab_status.unwrap_or_default();
            self.problems.push(format!(
                "the lab ended with status {status}; refuted are {}",
                if some.is_empty() { "none".to_owned() } else { some.join("; ") }
            ));
        }
    }

    fn tests(&mut self, row: &Row, cell: &Cell, ran: &Ran) {
        let tests = &ran.tests;
        match tests.passed {
            None => self.problems.push("the tests did not come to their end".to_owned()),
            Some(_) if tests.failed > 0 => {
                self.problems.push(format!("failed tests: {}", tests.failures.join(", ")));
            }
            Some(0) if row.whole_suite => self.problems.push("not a single test ran".to_owned()),
            Some(0) => self.problems.push(format!("there are no tests {}", row.tests.join(", "))),
            Some(passed) if passed <= tests.skipped && row.lab.is_empty() => {
                self.problems.push("all tests were skipped".to_owned());
            }
            Some(_) => {}
        }
        let compared = &tests.compared;
        if compared.differences > 0 {
            self.problems.push(format!("{} processes differ from the kernel's counts", compared.differences));
        }
        let compares = !plan::may_lose_runs(&row.name, &cell.backend)
            && (row.whole_suite || row.tests.iter().any(|test| test.starts_with("exact::")));
        if compares && compared.processes == 0 {
            self.problems.push("no process was compared with the kernel's counts".to_owned());
        }
        if compares && compared.copies == 0 && plan::kernel_counts_copies(&row.name) {
            self.problems.push("no copy was compared with the kernel's counts".to_owned());
        }
    }
}

/// What the other cells found, to compare with.
struct Reference {
    claims: BTreeMap<String, Claim>,
    counts: BTreeMap<String, Value>,
}

impl Reference {
    /// From the labs that are satisfied with themselves first.
    fn of<'a>(cells: impl Iterator<Item = &'a Cell>) -> Reference {
        let ran = |cell: &Cell| match &cell.outcome {
            Outcome::Ran(ran) => Some((ran.lab_status, ran.lab.clone()?)),
            _ => None,
        };
        let (good, others): (Vec<_>, Vec<_>) =
            cells.filter_map(ran).partition(|(status, _)| *status == Some(0));
        let labs: Vec<Lab> = good.into_iter().chain(others).map(|(_, lab)| lab).collect();
        let (mut claims, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for lab in labs {
            for (name, claim) in lab.claims {
                let known: &mut Claim = claims.entry(name).or_insert_with(|| claim.clone());
                if !known.is_measured() {
                    *known = claim;
                }
            }
            for (name, count) in lab.counts {
                counts.entry(name).or_insert(count);
            }
        }
        Reference { claims, counts }
    }

    /// How a claim differs from what it should be.
    fn difference(&self, name: &str, claim: &Claim) -> Option<String> {
        let Claim { verdict, measured, why } = claim;
        if !claim.is_measured() {
            return Some(format!("{verdict}: {why}"));
        }
        let other = self.claims.get(name)?;
        if other.verdict != *verdict {
            return Some(format!("{verdict}, elsewhere {}: {why}", other.verdict));
        }
        let is_step = ARTICLE_STEPS.iter().any(|step| name.split(':').next() == Some(step));
        let is_the_steps = is_step && !name.contains(EVERY_MAPPING);
        (is_the_steps && other.measured != *measured)
            .then(|| format!("{measured}, elsewhere {}", other.measured))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            cell,
            cell::tests::{TESTS, console, row},
            lab::tests::document,
        },
        *,
    };

    const PINNED: &str = "pages that the tracer counts as copied at the fork because they are pinned";

    /// A guest with two backends, in which all is well.
    fn good() -> (Vec<Row>, String, String) {
        let part = |backend: &str| {
            format!(
                "cowtrace-vm: begin {backend} 5.00\r\ncowtrace-vm: lab 0 30.00\r\n{TESTS}cowtrace-vm: end {backend} 45.50\r\n"
            )
        };
        let fentry = document("fentry", 17).replace("counted", PINNED);
        let fentry = fentry.replace("unmeasurable", "holds");
        let tracepoint = document("tracepoint", 17).replace("counted", PINNED);
        (
            vec![row("6.12", &["fentry", "tracepoint"])],
            part("fentry") + &part("tracepoint"),
            fentry + &tracepoint,
        )
    }

    fn judged(rows: &[Row], console: &str, results: &str) -> Judgement {
        let cells: Vec<Cell> = rows.iter().flat_map(|row| cell::read(row, console, results, None)).collect();
        judge(rows, &cells)
    }

    /// Breaks one thing, and gives the problems that this makes.
    fn broken(change: impl Fn(&mut Vec<Row>, &mut String, &mut String)) -> Vec<String> {
        let (mut rows, mut console, mut results) = good();
        change(&mut rows, &mut console, &mut results);
        judged(&rows, &console, &results).problems
    }

    fn only(problems: &[String], words: &str) {
        assert!(problems.len() == 1 && problems[0].contains(words), "{words}: {problems:#?}");
    }

    #[test]
    fn what_is_well_has_no_problems_and_differences_are_explained() {
        let (rows, console, results) = good();
        let Judgement { problems, explained } = judged(&rows, &console, &results);
        assert_eq!(problems, [] as [String; 0]);
        assert_eq!(explained.len(), 1);
        assert!(explained[0].starts_with("6.12 tracepoint: pinned-pages: "), "{explained:?}");
    }

    #[test]
    fn a_refusal_is_held_against_what_is_expected() {
        let rows = [row("6.1", &["fentry", "tracepoint"])];
        let results = document("fentry", 17).replace("unmeasurable", "holds");
        assert_eq!(judged(&rows, &console(), &results).problems, [] as [String; 0]);
        only(&judged(&[row("6.12", &["tracepoint"])], &console(), "").problems, "refused: cowtrace: needs");
        let other = console().replace("needs", "dislikes").replace("6.2", "it");
        only(&judged(&[row("6.1", &["tracepoint"])], &other, "").problems, "without a word of");
        only(&broken(|rows, _, _| rows[0].name = "5.10".into()), "5.10 tracepoint: not refused");
    }

    #[test]
    fn each_broken_thing_is_a_problem() {
        only(
            &broken(|_, console, _| *console = console.replacen("0 differences", "1 differences", 1)),
            "1 processes differ",
        );
        only(&broken(|_, console, _| *console = console.replacen("0 failed", "2 failed", 1)), "failed tests");
        only(
            &broken(|_, console, _| *console = console.replacen("test result: ok", "Killed", 1)),
            "did not come to their end",
        );
        only(
            &broken(|_, console, _| *console = console.replacen("12 passed", "0 passed", 1)),
            "there are no tests",
        );
        only(
            &broken(|_, console, _| *console = console.replace("end tracepoint", "")),
            "6.12 tracepoint: the guest powered off",
        );
        only(
            &broken(|_, _, results| {
                *results = results.replacen("\"residual_pages\":0", "\"residual_pages\":-4", 1)
            }),
            "4 pages of the ledger",
        );
        only(
            &broken(|_, _, results| *results = results.replacen("\"regions\":0", "\"regions\":7", 1)),
            "lost 7",
        );
        only(&broken(|rows, _, _| rows[0].lab.push("ksm".into())).split_off(1), "did not run: ksm");
        only(&broken(|_, _, results| results.truncate(results.len() / 2 + 100)), "no result of the lab");
        let none = |_: &mut Vec<Row>, console: &mut String, _: &mut String| {
            *console = console.replace("processes,", "things,")
        };
        assert_eq!(broken(none).len(), 4, "neither processes nor copies in either part");
    }

    #[test]
    fn runs_that_the_kernel_skips_are_explained_only_where_it_may() {
        let lossy = |kernel: &str| {
            let (mut rows, console, results) = good();
            rows[0].name = kernel.into();
            let lost = results.replacen("\"events\":0", "\"events\":3", 1);
            // The lab says so by its status as well.
            let console = console.replacen("lab 0", "lab 1", 1);
            judged(&rows, &console, &lost.replacen("\"residual_pages\":0", "\"residual_pages\":4", 1))
        };
        assert_eq!(lossy("6.12").problems.len(), 3);
        let Judgement { problems, explained } = lossy("7.2");
        assert_eq!(problems, [] as [String; 0]);
        assert!(explained.iter().any(|line| line.contains("child-writes: 3 runs")), "{explained:?}");
    }

    #[test]
    fn backends_are_held_against_each_other() {
        let wrong = |_: &mut Vec<Row>, _: &mut String, results: &mut String| {
            let split = results.find("}{").unwrap() + 1;
            let second = results
                .split_off(split)
                .replace("17,\"unit\"", "16,\"unit\"")
                .replace("\"copy\":17", "\"copy\":16");
            results.push_str(&second);
        };
        let problems = broken(wrong);
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(problems[0].contains("child-writes: copies in its heap"), "{problems:#?}");
        assert!(problems[1].contains("16 in the heap, 17 elsewhere"), "{problems:#?}");
    }

    #[test]
    fn a_claim_with_another_verdict_is_a_problem_and_so_is_a_status() {
        let refuted = |_: &mut Vec<Row>, _: &mut String, results: &mut String| {
            *results = results.replacen("\"verdict\":\"holds\"", "\"verdict\":\"refuted\"", 1);
        };
        let problems = broken(refuted);
        assert!(!problems.is_empty() && problems[0].contains("elsewhere"), "{problems:#?}");
        only(
            &broken(|_, console, _| *console = console.replacen("lab 0", "lab 1", 1)),
            "ended with status 1",
        );
        let differs = |_: &mut Vec<Row>, _: &mut String, results: &mut String| {
            *results = results.replacen("\"verdict\":\"holds\"", "\"verdict\":\"differs\"", 1);
        };
        only(&broken(differs), "differs: because");
    }

    #[test]
    fn a_guest_for_tests_alone_must_run_some() {
        let mut alone = row("6.12 lockdown", &["auto"]);
        (alone.lab, alone.tests) = (Vec::new(), vec!["refusals::".into()]);
        let printed =
            |result: &str| format!("cowtrace-vm: begin auto 5.0\r\n{result}cowtrace-vm: end auto 9.0\r\n");
        let of = |result: &str| judged(std::slice::from_ref(&alone), &printed(result), "").problems;
        assert_eq!(of("test result: ok. 1 passed; 0 failed\r\n"), [] as [String; 0]);
        only(&of("    skipped: x\r\ntest result: ok. 1 passed; 0 failed\r\n"), "all tests were skipped");
    }
}
