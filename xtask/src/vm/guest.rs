//! What is inside of a virtual machine.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use super::{
    disk::Tree,
    plan::{self, Row},
    userland::Userland,
};
use crate::{build::Programs, sys};

const INIT: &str = include_str!("init.sh");
/// Programs of this machine that the tests start; what is not here is skipped by the tests themselves.
const TOOLS: [&str; 21] = [
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
    "umount",
    "stress-ng",
    "seq",
    "head",
    "tail",
    "stat",
    "echo",
    "expr",
    "sqlite3",
];
/// What makes figures comparable. DAMON watches all memory by default since 6.17, and clears the marks of access, which
/// the lab reads, now and then. And the kernel counts a copy (`delayacct_end`) only if its clock has moved meanwhile: when
/// it takes emulated time stamps for unstable, its clock stands still between ticks. A kernel that tries its timer while this
/// machine is busy finds it broken, and does not boot.
const COMPARABLE: &str =
    "damon_stat.enabled=N tsc=reliable no_timer_check rcupdate.rcu_expedited=1 mitigations=off";

/// Makes the guest's root file system: gathers its files in `root`, and writes the image.
pub fn disk(userland: &Userland, programs: &Programs, live: &Path, root: &Path, image: &Path) -> Result<()> {
    let root = Tree::new(root.to_owned(), userland)?;
    for directory in
        ["proc", "sys", "dev", "tmp", "run", "root", "sbin", "usr/sbin", "usr/local/bin", "var/tmp"]
    {
        root.directory(directory)?;
    }
    root.file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
    root.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    root.program(&userland.busybox()?, "bin/busybox")?;
    for tool in TOOLS {
        if let Some(path) = userland.find(tool) {
            root.program(&path, &format!("usr/bin/{tool}"))?;
        }
    }
    // Named by this path in scripts.
    for tool in ["sh", "true", "echo"] {
        root.symlink(&format!("bin/{tool}"), &format!("../usr/bin/{tool}"))?;
    }
    root.program(live, "cowtrace/live")?;
    root.program(&subjects(userland, live)?, "cowtrace/subjects")?;
    root.program(&programs.cowtrace, "usr/local/bin/cowtrace")?;
    root.program(&programs.workload, "usr/local/bin/cowtrace-workload")?;
    // Where the tests look for their sources.
    let workspace = sys::workspace_root()?;
    root.directory(&workspace.join("tests").display().to_string())?;
    root.tree(&workspace.join("docs"), &workspace.join("docs").display().to_string())?;
    // What a test is left out by: a whole module, or a whole name.
    let pattern =
        |name: &str| if name.ends_with("::") { format!("^{name}\n") } else { format!("^{name}$\n") };
    let left_out: String = plan::LEFT_OUT.iter().map(|(name, _)| pattern(name)).collect();
    root.file("cowtrace/left-out", 0o644, left_out.as_bytes())?;
    let exact: String = plan::EXACT.into_iter().map(pattern).collect();
    root.file("cowtrace/exact", 0o644, exact.as_bytes())?;
    root.file("init", 0o755, INIT.as_bytes())?;
    root.finish(image)
}

/// The tests' C programs, compiled here: the guest has no compiler.
fn subjects(userland: &Userland, live: &Path) -> Result<PathBuf> {
    let sources = sys::workspace_root()?.join("tests/programs");
    let built = live.with_file_name("subjects-vm");
    let mut compiler = Command::new(userland.compiler());
    compiler.args(["-O1", "-fno-omit-frame-pointer", "-pthread", "-o"]);
    compiler.arg(&built);
    sys::run(
        compiler.args(["subjects.c", "faults.c", "stacks.c", "pages.c"].map(|name| sources.join(name))),
    )?;
    Ok(built)
}

/// What the guest reads from its kernel's command line: what to run, and how long each part may take.
pub fn command_line(row: &Row, limit: Duration) -> String {
    let unsure: Vec<&str> = row
        .backends
        .iter()
        .map(String::as_str)
        .filter(|backend| plan::may_lose_runs(&row.name, backend))
        .collect();
    let facts = [
        ("backends", row.backends.join(",")),
        ("lab", row.lab.join(",")),
        ("size", row.size.clone()),
        ("tests", row.tests.join(",")),
        ("unsure", unsure.join(",")),
        ("suite", if row.whole_suite { "whole".to_owned() } else { String::new() }),
        ("rounds", plan::rounds(row).to_string()),
        ("seconds", limit.as_secs().to_string()),
    ];
    let facts = facts.map(|(name, value)| format!("cowtrace.{name}={value}"));
    format!("{COMPARABLE} {} {}", row.boot_words, facts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{kernels::LINES, plan::Choice},
        *,
    };

    #[test]
    fn a_command_line_fits_into_what_kernels_read() {
        let all = Choice::default();
        for row in plan::rows(&LINES, &all) {
            let words = command_line(&row, Duration::from_secs(99));
            // COMMAND_LINE_SIZE of x86 and arm64, less what is in front.
            assert!(words.len() < 2048 - 200, "{}: {}", row.name, words.len());
            assert!(words.ends_with("cowtrace.seconds=99"), "{words}");
        }
    }
}
