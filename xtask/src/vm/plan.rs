//! What runs on which kernel, and what is expected there. All that is decided about that is decided here.

use super::kernels::{LINES, Line};

/// All backends, in the order in which they are tried.
pub const BACKENDS: [&str; 3] = ["fentry", "kprobe", "tracepoint"];

/// What the article shows in its five steps. Their counts are the same everywhere.
pub const ARTICLE_STEPS: [&str; 5] =
    ["no-heap", "heap-untouched", "heap-touched", "fork-shared", "child-writes"];

/// The other experiments that run on each kernel and each backend. What is not here takes minutes in emulation, or needs more
/// memory or programs than a guest has.
const MORE_EXPERIMENTS: [&str; 24] = [
    "byte-per-page",
    "zero-page",
    "private-file",
    "hugetlb",
    "ksm",
    "pinned-pages",
    "parent-writes-page",
    "read-only-child",
    "half-heap",
    "map-shared",
    "snapshot",
    "dontfork",
    "wipeonfork",
    "thp-byte",
    "posix-spawn",
    "shared-clean-claim",
    "rss-after-fork",
    "global-array",
    "scattered-writes",
    "grandchild-writes",
    "segments",
    "vsz-rss",
    "exit-unshares",
    "fork-exec",
];

/// Kernels that are booted by the tests.
const PLANNED: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

/// The kernel that is booted besides them if none is named. Programs for it take minutes to build.
const FOREIGN: &str = "6.12-arm64";

/// Memory of the experiments that can do with any: enough for each of them to show something.
const LAB_SIZE: &str = "8M";

/// Live tests that run on each kernel and each backend. The kinds of faults are all in `together`; each of the features is
/// used once in `features`: record of what runs already with its stacks, pages and times, trace, verify. The lab at fixed
/// addresses has what it would otherwise take chance to see.
const TESTS: [&str; 6] = [
    "together::",
    "features::",
    "exact::a_shell",
    "gup::foreign",
    "gup::pinned",
    "lab::a_program_at_its_parents_addresses",
];

/// Live tests that run on some kernels.
const MORE_TESTS: [(&str, &str); 2] =
    [("5.10", "huge::huge_pages_of_the_pool"), ("6.1", "huge::huge_pages_of_the_pool")];

/// Live tests that no guest can run, whole modules (`module::`) or single ones, and what each needs that no guest has. All
/// others are run by `--whole-suite`.
pub const LEFT_OUT: [(&str, &str); 9] = [
    ("cost::", "its limits are milliseconds of a real processor"),
    ("lab::a_million_copies_are_counted", "11 GiB of memory"),
    ("lab::every_experiment_has_the_right_verdicts", "the whole lab in 90 seconds, Python, a Redis server"),
    ("lab::the_documentation_has_each_claim", "the same"),
    ("lab_errors::an_interrupt_in_each_experiment", "the same"),
    ("postgresql::", "a PostgreSQL server"),
    ("prefork_python::", "Python, gunicorn"),
    ("redis::", "a Redis server"),
    ("top::one_frame_tells_the_rate", "a program that keeps its pace while the tracer is loaded"),
];

/// Live tests of counts that may not be exact where the kernel may skip runs of programs ([`may_lose_runs`]), and that
/// do not trace again until nothing was lost, or would have to for minutes.
pub const EXACT: [&str; 14] = [
    "exact::",
    "together::",
    "attach::",
    "stacks::",
    "features::a_running_program_is_recorded_with_its_stacks",
    "lab::a_program_at_its_parents_addresses_is_not_its_parent",
    "life::a_tree_of_forks",
    "life::two_thousand_short_threads",
    "pages::pages_of_many_processes_sum_up",
    "pages::threads_that_write_the_same_pages_lose_no_copy",
    "recordings::a_recording_gives_the_report_again_and_snapshots_disturb_no_count",
    "trace::each_copy_has_a_line",
    "verify::a_shell_with_many_commands_is_exact",
    "verify::many_processes_are_summed_up",
];

/// How often tests go round that can do with any number, or how many seconds they take: as planned, and in the whole suite.
const ROUNDS: u32 = 4;
const ROUNDS_OF_WHOLE_SUITE: u32 = 15;

/// What runs in one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name in the table.
    pub name: String,
    /// Its kernel.
    pub line: Line,
    /// More words of the kernel's command line.
    pub boot_words: &'static str,
    /// Backends to be tried, one after the other.
    pub backends: Vec<String>,
    /// Experiments of the lab.
    pub lab: Vec<String>,
    /// Memory of those that can do with any; empty: what each of them takes by itself.
    pub size: String,
    /// Filters of live tests.
    pub tests: Vec<String>,
    /// Instead of these, all live tests but those of [`LEFT_OUT`], each by itself.
    pub whole_suite: bool,
}

/// What the caller chooses otherwise.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Backends (empty: all).
    pub backends: Vec<String>,
    /// Experiments (empty: as planned).
    pub lab: Vec<String>,
    /// Filters of tests (empty: as planned).
    pub tests: Vec<String>,
    /// All live tests, and no lab but what is chosen.
    pub whole_suite: bool,
}

/// The kernels that are booted by the tests.
pub fn planned() -> Vec<Line> {
    LINES.into_iter().filter(|line| PLANNED.contains(&line.name)).collect()
}

/// The kernels that are booted if none is named.
pub fn planned_and_foreign() -> Vec<Line> {
    LINES.into_iter().filter(|line| line.name == FOREIGN || PLANNED.contains(&line.name)).collect()
}

/// The guests for these kernels.
pub fn rows(lines: &[Line], choice: &Choice) -> Vec<Row> {
    let or = |chosen: &[String], planned: Vec<&str>| {
        if chosen.is_empty() { planned.into_iter().map(str::to_owned).collect() } else { chosen.to_vec() }
    };
    let mut rows: Vec<Row> = lines
        .iter()
        .map(|line| Row {
            name: line.name.to_owned(),
            line: *line,
            boot_words: "",
            backends: or(&choice.backends, backends(*line, choice.whole_suite)),
            lab: or(&choice.lab, if choice.whole_suite { Vec::new() } else { experiments() }),
            // Among the planned ones there are some with a size to choose.
            size: if choice.lab.is_empty() { LAB_SIZE.to_owned() } else { String::new() },
            tests: or(&choice.tests, if choice.whole_suite { Vec::new() } else { tests(*line) }),
            whole_suite: choice.whole_suite,
        })
        .collect();
    let as_planned =
        choice.backends.is_empty() && choice.lab.is_empty() && choice.tests.is_empty() && !choice.whole_suite;
    rows.extend(lines.iter().filter(|line| as_planned && line.name == LOCKED_DOWN).map(|line| Row {
        name: format!("{} lockdown", line.name),
        line: *line,
        boot_words: "lockdown=confidentiality",
        backends: vec!["auto".to_owned()],
        lab: Vec::new(),
        size: String::new(),
        tests: vec!["refusals::lockdown".to_owned()],
        whole_suite: false,
    }));
    rows
}

/// The kernel that is booted once more, locked down.
const LOCKED_DOWN: &str = "6.12";

/// The backends to be tried; the whole suite has nothing to run where one is refused.
fn backends(line: Line, whole_suite: bool) -> Vec<&'static str> {
    let tried = |backend: &&str| !whole_suite || expected(line.name, backend) == Expected::Works;
    BACKENDS.into_iter().filter(tried).collect()
}

fn tests(line: Line) -> Vec<&'static str> {
    let more = MORE_TESTS.iter().filter(|(kernel, _)| *kernel == line.name).map(|(_, test)| *test);
    TESTS.into_iter().chain(more).collect()
}

fn experiments() -> Vec<&'static str> {
    ARTICLE_STEPS.into_iter().chain(MORE_EXPERIMENTS).collect()
}

/// How often tests go round in this guest.
pub fn rounds(row: &Row) -> u32 {
    if row.whole_suite { ROUNDS_OF_WHOLE_SUITE } else { ROUNDS }
}

/// What a backend is to do on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Work.
    Works,
    /// Be refused by cowtrace, for a reason with these words.
    Refused(&'static str),
}

/// What is known of the kernels.
pub fn expected(row: &str, backend: &str) -> Expected {
    match (row, backend) {
        // Their counters of resident pages are gathered in each thread, and reported late.
        ("5.10" | "6.1", "tracepoint") => Expected::Refused("6.2"),
        // The tracepoints of page faults are x86's.
        ("6.1-arm64" | "6.12-arm64" | "6.12-arm64-16k", "tracepoint") => Expected::Refused("tracepoint"),
        // arm64 has direct calls from functions since 6.4.
        ("6.1-arm64", "fentry") => Expected::Refused("fentry"),
        _ => Expected::Works,
    }
}

/// Whether the kernel counts copies itself (taskstats' `wpcopy_count`, since 5.19).
pub fn kernel_counts_copies(row: &str) -> bool {
    row != "5.10"
}

/// Whether the kernel may skip runs of a backend's programs: all but kprobes can be preempted there. The runs are counted
/// as lost, but the counts are not exact, so that they are not compared.
pub fn may_lose_runs(row: &str, backend: &str) -> bool {
    row == "7.2" && backend != "kprobe"
}

/// A difference that is real, and why. Empty strings stand for any kernel and any backend.
pub struct Explained {
    /// The row.
    pub row: &'static str,
    /// The backend.
    pub backend: &'static str,
    /// `experiment: claim`.
    pub claim: &'static str,
    /// The reason.
    pub why: &'static str,
}

/// All of them: a claim that differs anywhere else fails the matrix.
pub const EXPLAINED: [Explained; 7] = [
    Explained {
        row: "7.2",
        backend: "",
        claim: "fork-shared: Referenced of the child's heap",
        why: "fork leaves the marks of access in the child's entries there; 6.18 cleared them",
    },
    Explained {
        row: "6.1",
        backend: "",
        claim: "rss-after-fork: VmRSS of the child after it wrote is what it was before",
        why: "before 6.2 the kernel shows VmRSS late, by up to 64 pages for each thread",
    },
    Explained {
        row: "6.1-arm64",
        backend: "",
        claim: "rss-after-fork: VmRSS of the child after it wrote is what it was before",
        why: "before 6.2 the kernel shows VmRSS late, by up to 64 pages for each thread",
    },
    Explained {
        row: "5.10",
        backend: "",
        claim: "rss-after-fork: VmRSS of the child after it wrote is what it was before",
        why: "before 6.2 the kernel shows VmRSS late, by up to 64 pages for each thread",
    },
    Explained {
        row: "",
        backend: "tracepoint",
        claim: "pinned-pages: pages that the tracer counts as copied at the fork because they are pinned",
        why: "a fork copies them without a fault, and this backend sees faults only: null, not 0",
    },
    Explained {
        row: "5.10",
        backend: "",
        claim: "ksm: the kernel's own count of these copies (vmstat cow_ksm)",
        why: "the kernel counts them since 5.19; here the tracer's count stands alone",
    },
    Explained {
        row: "5.10",
        backend: "",
        claim: "zero-page: the kernel's count of copies (taskstats wpcopy_count) while these pages are written",
        why: "the kernel counts them since 5.19; here the tracer's count stands alone",
    },
];

/// Why a difference is as it should be, if it is.
pub fn explained(row: &str, backend: &str, claim: &str) -> Option<&'static str> {
    let fits = |known: &str, is: &str| known.is_empty() || known == is;
    let known = EXPLAINED.iter().find(|e| fits(e.row, row) && fits(e.backend, backend) && e.claim == claim);
    known.map(|explained| explained.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_experiments_run_on_each_kernel_and_the_steps_come_first() {
        let rows = rows(&planned(), &Choice::default());
        let kernels: Vec<&Row> = rows.iter().filter(|row| !row.lab.is_empty()).collect();
        assert_eq!(kernels.len(), PLANNED.len());
        for row in &kernels {
            assert_eq!(row.lab[..5], ARTICLE_STEPS);
            assert_eq!(row.lab.len(), 29);
        }
    }

    #[test]
    fn one_kernel_is_booted_once_more_locked_down() {
        let rows = rows(&LINES, &Choice::default());
        let locked: Vec<&Row> = rows.iter().filter(|row| row.boot_words.contains("lockdown")).collect();
        assert_eq!(locked.len(), 1);
        assert_eq!(locked[0].tests, ["refusals::lockdown"]);
    }

    #[test]
    fn a_choice_is_kept_to() {
        let choice = Choice { backends: vec!["kprobe".into()], lab: vec!["ksm".into()], ..Choice::default() };
        let rows = rows(&LINES[..1], &choice);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].backends.as_slice(), rows[0].lab.as_slice()),
            (&["kprobe".into()][..], &["ksm".into()][..])
        );
    }

    #[test]
    fn the_whole_suite_needs_no_lab_and_no_backend_that_is_refused() {
        let rows = rows(&planned(), &Choice { whole_suite: true, ..Choice::default() });
        assert_eq!(rows.len(), PLANNED.len());
        assert!(rows.iter().all(|row| row.whole_suite && row.lab.is_empty() && row.tests.is_empty()));
        assert_eq!((rows[0].backends.len(), rows[3].backends.len()), (2, 3));
    }

    #[test]
    fn tests_that_are_named_exist() {
        let live = crate::sys::workspace_root().unwrap().join("tests/live");
        let names = LEFT_OUT.iter().map(|(name, _)| name).chain(&EXACT).chain(&TESTS);
        for name in names.chain(MORE_TESTS.iter().map(|(_, name)| name)) {
            let (module, test) = name.split_once("::").unwrap();
            let source = std::fs::read_to_string(live.join(format!("{module}.rs"))).unwrap();
            assert!(source.contains(&format!("\nfn {test}")), "{name}");
        }
    }

    #[test]
    fn only_what_is_listed_is_explained() {
        let claim = EXPLAINED[4].claim;
        assert!(explained("6.12", "tracepoint", claim).is_some());
        assert!(explained("6.12", "fentry", claim).is_none());
        assert!(explained("6.12", "tracepoint", "pinned-pages: another").is_none());
    }
}
