//! What is inside of a virtual machine, and what its output means.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{initramfs::Initramfs, userland::Userland};
use crate::{build::Programs, sys};

/// The guest's shell and tools (Debian's package).
pub const PACKAGE: &str = "busybox-static";
const INIT: &str = include_str!("init.sh");
/// Programs of this machine that the tests start; what is not here is skipped by the tests themselves.
const TOOLS: [&str; 17] = [
    "sh",
    "ls",
    "sort",
    "cat",
    "true",
    "false",
    "touch",
    "sleep",
    "env",
    "setpriv",
    "unshare",
    "mount",
    "stress-ng",
    "seq",
    "head",
    "tail",
    "stat",
];

/// The guest's root file system.
pub fn root(userland: &Userland, programs: &Programs, live: &Path) -> Result<Vec<u8>> {
    let mut root = Initramfs::new(userland);
    for directory in
        ["proc", "sys", "dev", "tmp", "run", "root", "sbin", "usr/sbin", "usr/local/bin", "var/tmp"]
    {
        root.directory(directory);
    }
    root.file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
    root.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    let busybox = userland.find("busybox").with_context(|| format!("no busybox (Debian: {PACKAGE})"))?;
    root.copy(&busybox, "bin/busybox")?;
    for tool in TOOLS {
        if let Some(path) = userland.find(tool) {
            root.program(&path, &format!("usr/bin/{tool}"))?;
        }
    }
    root.symlink("bin/sh", "../usr/bin/sh");
    root.program(live, "cowtrace/live")?;
    root.program(&subjects(userland, live)?, "cowtrace/subjects")?;
    root.program(&programs.cowtrace, "usr/local/bin/cowtrace")?;
    root.program(&programs.workload, "usr/local/bin/cowtrace-workload")?;
    // Where the tests look for their sources.
    let workspace = sys::workspace_root()?;
    root.directory(&workspace.join("tests").display().to_string());
    root.tree(&workspace.join("docs"), &workspace.join("docs").display().to_string())?;
    root.file("init", 0o755, INIT.as_bytes());
    Ok(root.finish())
}

/// The tests' C programs, compiled here: the guest has no compiler.
fn subjects(userland: &Userland, live: &Path) -> Result<PathBuf> {
    let sources = sys::workspace_root()?.join("tests/programs");
    let built = live.with_file_name("subjects-vm");
    let mut compiler = Command::new(userland.compiler());
    compiler.args(["-O1", "-pthread", "-o"]).arg(&built);
    sys::run(compiler.args(["subjects.c", "faults.c"].map(|name| sources.join(name))))?;
    Ok(built)
}

/// What the guest reads from its kernel's command line.
pub fn command_line(backends: &[String], tests: &[String]) -> String {
    format!("cowtrace.backends={} cowtrace.tests={}", backends.join(","), tests.join(","))
}

/// The result of the tests on one backend.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    passed: Option<u32>,
    failed: Option<u32>,
    skipped: u32,
    failures: Vec<String>,
}

impl Outcome {
    /// From what the guest printed.
    pub fn read(printed: &str, backend: &str) -> Outcome {
        let begin = format!("cowtrace-vm: begin {backend}");
        let end = format!("cowtrace-vm: end {backend}");
        let part = printed.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        let Some((part, _)) = part else { return Outcome::default() };
        let result = part.lines().rev().find_map(|line| line.split_once("test result: "));
        let number = |word: &str| {
            let (_, counts) = result?;
            let before = counts.split_once(&format!(" {word}"))?.0;
            before.split_whitespace().last()?.parse().ok()
        };
        let failures =
            part.lines().filter_map(|line| line.trim().strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        Outcome {
            passed: number("passed"),
            failed: number("failed"),
            skipped: u32::try_from(part.matches("skipped: ").count()).unwrap_or(u32::MAX),
            failures: failures.map(str::to_owned).collect(),
        }
    }

    /// Whether the tests ran, and none failed.
    pub fn good(&self) -> bool {
        self.failed == Some(0) && self.passed.is_some_and(|passed| passed > 0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(passed), Some(failed)) = (self.passed, self.failed) else {
            return f.write_str("the tests did not come to their end");
        };
        // To the test program, a test that skips itself has passed.
        let passed = passed.saturating_sub(self.skipped);
        write!(f, "{passed} passed, {failed} failed, {} skipped", self.skipped)?;
        if self.failures.is_empty() { Ok(()) } else { write!(f, ": {}", self.failures.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "cowtrace-vm: alive\r\ncowtrace-vm: begin tracepoint\r\n\
        test exact::a ... ok\r\n    skipped: b: no stress-ng\r\ntest kinds::c ... FAILED\r\n\
        test result: FAILED. 12 passed; 1 failed; 0 ignored\r\ncowtrace-vm: end tracepoint 101\r\n";

    #[test]
    fn results_are_read_for_each_backend() {
        let outcome = Outcome::read(PRINTED, "tracepoint");
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (Some(12), Some(1), 1));
        assert_eq!(outcome.failures, ["kinds::c"]);
        assert!(!outcome.good());
        assert!(!Outcome::read(PRINTED, "fentry").good(), "no result is no success");
        let good = PRINTED.replace("1 failed", "0 failed");
        assert!(Outcome::read(&good, "tracepoint").good());
    }
}
