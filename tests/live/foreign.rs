//! Names and arguments that a traced program made to do harm: they are shown, and do nothing to who reads them.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{cowtrace, found, live, scratch, skip, tracer};

/// Takes a name with a colour and a new line in it, maps a file of such a name, and copies pages after a fork.
const PROGRAM: &str = r#"
import ctypes, mmap, os, sys
ctypes.CDLL(None).prctl(15, b"\x1b[31mEVIL\n\x07", 0, 0, 0)
with open(sys.argv[2], "w+b") as file:
    file.truncate(1 << 20)
    mapped = mmap.mmap(file.fileno(), 1 << 20, flags=mmap.MAP_PRIVATE)
memory = bytearray(4 << 20)
for _ in range(5):
    child = os.fork()
    if child == 0:
        for offset in range(0, len(mapped), 4096):
            mapped[offset] = 1
        for offset in range(0, len(memory), 4096):
            memory[offset] = 1
        os._exit(0)
    os.waitpid(child, 0)
"#;
const ARGUMENT: &str = "x\x1b[41mARG\ny";

/// No character but the ends of lines is one that a terminal obeys.
fn is_harmless(text: &str) -> Result<()> {
    let obeyed = text.chars().find(|c| c.is_control() && *c != '\n');
    ensure!(obeyed.is_none(), "{obeyed:?} in {text}");
    ensure!(
        !text.lines().any(|line| line.starts_with("y'") || line.starts_with("y ")),
        "a line ends in: {text}"
    );
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

#[test]
fn nothing_that_a_terminal_obeys_is_shown() -> Result<()> {
    let _live = live!();
    let Some(python) = found("python3") else {
        skip("nothing_that_a_terminal_obeys_is_shown", "python3 is not installed");
        return Ok(());
    };
    let place = scratch()?;
    let path = |name: &str| place.path().join(name);
    let (program, mapped) = (path("evil.py"), path("map\x1b[32mped\nfile"));
    fs::write(&program, PROGRAM)?;
    let command = [python.as_os_str(), program.as_os_str(), ARGUMENT.as_ref(), mapped.as_os_str()];
    let [report, map, flames, json] = ["report", "map.svg", "flames.svg", "report.json"].map(path);
    let run = tracer("run")
        .args(["--pages", "--latency", "--stacks", "-o"])
        .arg(&report)
        .arg("--map")
        .arg(&map)
        .arg("--flamegraph")
        .arg(&flames)
        .arg("--")
        .args(command)
        .output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = read(&report)?;
    is_harmless(&text)?;
    for word in ["\u{fffd}[31mEVIL\u{fffd}", "'x\u{fffd}[41mARG\u{fffd}y'"] {
        ensure!(text.contains(word), "no {word:?} in {text}");
    }
    for picture in [&map, &flames] {
        let text = read(picture)?;
        // The flame graph's script has tabs.
        is_harmless(&text.replace('\t', " "))?;
        ensure!(text.contains("ARG"), "{}", picture.display());
    }
    let run = tracer("run").args(["--format", "json", "-o"]).arg(&json).arg("--").args(command).output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let parsed: serde_json::Value = serde_json::from_str(&read(&json)?)?;
    let words = parsed["command"].as_array().context("no command")?;
    ensure!(words.iter().any(|word| word == ARGUMENT), "JSON has not what there was: {words:?}");
    for subcommand in ["verify", "trace"] {
        let output = tracer(subcommand).arg("--").args(command).output()?;
        is_harmless(&String::from_utf8(output.stderr)?).with_context(|| subcommand.to_owned())?;
    }
    // These have no backend.
    let output = Command::new(cowtrace()).arg("diff").args([&json, &json]).env("COLUMNS", "400").output()?;
    let said = String::from_utf8(output.stdout)?;
    is_harmless(&said)?;
    ensure!(output.status.success() && said.contains("ARG"), "{said}");
    let refused = Command::new(cowtrace()).arg("report").arg(&mapped).output()?;
    let said = String::from_utf8(refused.stderr)?;
    is_harmless(&said)?;
    ensure!(said.lines().count() == 1 && said.contains("\u{fffd}[32mped"), "{said}");
    Ok(())
}
