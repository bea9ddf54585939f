//! What one backend showed on one kernel: read from what the guest printed.

use super::{
    lab::{self, Lab},
    plan::Row,
    suite,
};

/// A place in the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The row's name.
    pub row: String,
    /// The backend.
    pub backend: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Seconds that it took in the guest.
    pub seconds: Option<f64>,
}

/// What became of a backend on a kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// cowtrace refuses it, for this reason.
    Refused(String),
    /// It was tried.
    Ran(Box<Ran>),
    /// The guest did not come to its end; what is known of that.
    Broken(String),
}

/// The lab and the tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ran {
    /// Exit status of the lab, if there was one.
    pub lab_status: Option<u8>,
    /// What the lab found, if it wrote that.
    pub lab: Option<Lab>,
    /// What the lab said on standard error.
    pub said: Vec<String>,
    /// The tests.
    pub tests: Tests,
}

/// The live tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tests {
    /// Those that passed, or were skipped: to the test program it is the same. `None`: they did not come to their end.
    pub passed: Option<u32>,
    /// Those that failed.
    pub failed: u32,
    /// Tests, or parts of them, that were left out.
    pub skipped: u32,
    /// Names of those that failed.
    pub failures: Vec<String>,
    /// Seconds of each, where each ran by itself.
    pub seconds: Vec<(String, f64)>,
    /// Names of those that were left out.
    pub left_out: Vec<String>,
    /// What they compared with the kernel's own counts.
    pub compared: Compared,
}

/// What was held against the kernel's own counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Processes.
    pub processes: u64,
    /// Copies by the kernel's count.
    pub copies: u64,
    /// Processes with another count, or missing.
    pub differences: u64,
}

/// What the guest prints before each fact.
pub const MARK: &str = "cowtrace-vm: ";

/// One cell for each backend of a row. `fault`: what is wrong with the guest itself.
pub fn read(row: &Row, console: &str, results: &str, fault: Option<&str>) -> Vec<Cell> {
    let labs = lab::read(results);
    let cell = |backend: &String| {
        let (outcome, seconds) = match part_of(console, backend) {
            Some((part, seconds)) => (outcome(row, part, lab_of(&labs, backend)), Some(seconds)),
            None => (Outcome::Broken(fault.unwrap_or("the guest powered off before").to_owned()), None),
        };
        Cell { row: row.name.clone(), backend: backend.clone(), outcome, seconds }
    };
    row.backends.iter().map(cell).collect()
}

fn lab_of(labs: &[(String, Lab)], backend: &str) -> Option<Lab> {
    labs.iter().find(|(name, _)| name == backend).map(|(_, lab)| lab.clone())
}

/// What was printed for a backend, and the seconds that it took.
fn part_of<'a>(console: &'a str, backend: &str) -> Option<(&'a str, f64)> {
    let (_, rest) = console.split_once(&format!("{MARK}begin {backend} "))?;
    let (part, end) = rest.split_once(&format!("{MARK}end {backend} "))?;
    let time = |text: &str| text.split_whitespace().next()?.parse::<f64>().ok();
    Some((part, time(end)? - time(part)?))
}

fn outcome(row: &Row, part: &str, lab: Option<Lab>) -> Outcome {
    let facts = |name: &str| {
        let mark = format!("{MARK}{name} ");
        part.lines().filter_map(move |line| Some(line.split_once(&mark)?.1.trim().to_owned()))
    };
    let said: Vec<String> = facts("said").collect();
    let lab_status = facts("lab").next().and_then(|fact| fact.split_whitespace().next()?.parse().ok());
    if lab_status == Some(3) {
        return Outcome::Refused(said.join(" "));
    }
    let tests = if row.whole_suite { suite::read(part) } else { Tests::read(part) };
    Outcome::Ran(Box::new(Ran { lab_status, lab, said, tests }))
}

impl Tests {
    /// What a test program printed.
    pub fn read(part: &str) -> Tests {
        let result = part.lines().rev().find_map(|line| Some(line.split_once("test result: ")?.1));
        let number = |word: &str| {
            let (before, _) = result?.split_once(&format!(" {word}"))?;
            before.split_whitespace().last()?.parse().ok()
        };
        // As headings of what they printed: what a test says by itself stands between its name and its result.
        let failures =
            part.lines().filter_map(|line| line.trim().strip_prefix("---- ")?.strip_suffix(" stdout ----"));
        Tests {
            passed: number("passed"),
            failed: number("failed").unwrap_or(0),
            skipped: u32::try_from(part.matches("skipped: ").count()).unwrap_or(u32::MAX),
            failures: failures.map(str::to_owned).collect(),
            compared: Compared::read(part),
            ..Tests::default()
        }
    }
}

impl Compared {
    /// The tests print `…: N processes, M copies by the kernel's count, D differences`; on kernels that do not count
    /// copies, `N processes within the kernel's count of faults, D differences`.
    fn read(part: &str) -> Compared {
        let mut sum = Compared::default();
        for line in part.lines() {
            let Some((before, after)) = line.split_once(" processes") else { continue };
            let Some((middle, _)) = after.split_once(" differences") else { continue };
            let last = |text: &str| text.split_whitespace().last()?.parse::<u64>().ok();
            let (Some(processes), Some(differences)) = (last(before), last(middle)) else { continue };
            let copies =
                middle.split_once(" copies by the kernel's count").and_then(|(copies, _)| last(copies));
            if copies.is_none() && !middle.contains("within the kernel's count of faults") {
                continue;
            }
            sum.processes += processes;
            sum.copies += copies.unwrap_or(0);
            sum.differences += differences;
        }
        sum
    }
}

#[cfg(test)]
pub mod tests {
    use super::{super::kernels::LINES, *};

    pub const TESTS: &str = "test exact::a ...     shell and ls, with regions: 62 processes, 712 copies by the \
        kernel's count, 0 differences, lost {\"events\":0}\r\n    shell and ls: 5225 faults of all kinds\r\n    shell and \
        ls, without regions: 62 processes, 713 copies by the kernel's count, 0 differences, lost {}\r\nok\r\n    skipped: \
        b: no swap\r\ntest kinds::c ... ok\r\ntest result: ok. 12 passed; 0 failed; 0 ignored\r\ncowtrace-vm: tests 0 40.00\r\n";

    pub fn row(name: &str, backends: &[&str]) -> Row {
        Row {
            name: name.to_owned(),
            line: LINES[0],
            boot_words: "",
            backends: backends.iter().map(|&backend| backend.to_owned()).collect(),
            lab: vec!["child-writes".to_owned(), "pinned-pages".to_owned()],
            size: String::new(),
            tests: vec!["exact::".to_owned()],
            whole_suite: false,
        }
    }

    /// What a guest prints when all is well, except for a refused backend.
    pub fn console() -> String {
        format!(
            "cowtrace-vm: alive 4.20\r\ncowtrace-vm: begin fentry 5.00\r\ncowtrace-vm: lab 0 30.00\r\n{TESTS}\
             cowtrace-vm: end fentry 45.50\r\ncowtrace-vm: begin tracepoint 45.50\r\ncowtrace-vm: said cowtrace: needs \
             Linux 6.2\r\ncowtrace-vm: lab 3 46.00\r\ncowtrace-vm: end tracepoint 46.10\r\n"
        )
    }

    #[test]
    fn each_backend_has_its_own_part() {
        let results = lab::tests::document("fentry", 17);
        let cells =
            read(&row("6.1", &["fentry", "tracepoint", "kprobe"]), &console(), &results, Some("killed"));
        assert_eq!(cells[0].seconds, Some(40.5));
        let Outcome::Ran(ran) = &cells[0].outcome else { panic!("{:?}", cells[0]) };
        assert_eq!(ran.lab_status, Some(0));
        assert!(ran.lab.is_some());
        let tests = &ran.tests;
        assert_eq!((tests.passed, tests.failed, tests.skipped), (Some(12), 0, 1));
        assert_eq!(tests.compared, Compared { processes: 124, copies: 1425, differences: 0 });
        assert_eq!(cells[1].outcome, Outcome::Refused("cowtrace: needs Linux 6.2".to_owned()));
        assert_eq!(cells[2].outcome, Outcome::Broken("killed".to_owned()));
    }

    #[test]
    fn failures_are_named() {
        let failed = "kinds::c ...     said\r\nFAILED\r\n\r\n---- kinds::c stdout ----\r\nError: x\r\n";
        let printed = TESTS.replace("kinds::c ... ok", failed).replace("0 failed", "1 failed");
        let tests = Tests::read(&printed);
        assert_eq!((tests.failed, tests.failures), (1, vec!["kinds::c".to_owned()]));
        assert_eq!(Tests::read("test exact::a ... ").passed, None, "the program was killed");
    }

    #[test]
    fn where_the_kernel_counts_no_copies_the_processes_are_summed_up_all_the_same() {
        let compared = Compared::read(
            "    shell: 62 processes within the kernel's count of faults, 1 differences\r\n    forks: 3 processes\r\n",
        );
        assert_eq!(compared, Compared { processes: 62, copies: 0, differences: 1 });
    }
}
