//! Reference counts: children of a real CPython read objects, and copy the pages that these are in.

mod claims;
mod interpreter;
mod memory;
mod seen;

use std::{ffi::OsString, io::Write as _, path::Path};

use anyhow::Context as _;

use super::SOURCE;
use crate::{
    lab::{
        experiment::{Experiment, Lab, Outcome},
        story::{Focus, PARENT},
        workload::{LAB_ARGUMENT, Program, Workload},
    },
    ledger::Known,
};
use interpreter::Interpreter;
use memory::Memory;
use seen::Seen;

const SCRIPT: &str = include_str!("refcounts.py");
/// Objects in each of the script's lists.
const OBJECTS: u64 = 150_000;

pub(super) static EXPERIMENTS: [Experiment; 1] = [Experiment {
    id: "python-refcounts",
    source: SOURCE,
    title: "Reading an object writes to it: Python's reference counts",
    about: "A real python3 makes 150,000 strings, as many instances of a small class, and as many plain numbers \
            in one array. Then it forks six children, one after the other: they read, or let the garbage \
            collector run, before and after gc.freeze(); the last one does nothing, and leaves.",
    expect: "Each string has a counter of its references in front of its letters. A loop over the strings \
             counts up and down again, and leaves all as it was, but for the copies: every page of the strings. \
             The array has no objects in it, and is not copied.",
    lesson: "For copy-on-write it is all one whether a program means to write. Reference counts spoil sharing \
             where objects are read; the collector spoils it where objects can hold others. gc.freeze() ends \
             the second, never the first, and gc.disable() ends neither for who reads or collects. A child \
             that leaves by sys.exit() frees what it has, and so copies all of it in its last moment; \
             os._exit() does not. What stays shared is data that is not made of objects: arrays, buffers.",
    focus: Focus::Buffer("the strings' memory"),
    size: None,
    run,
}];

/// What the processes are called, by role; the children are those of the script, in its order.
const ROLES: [&str; 7] =
    ["parent", "reader", "collector", "reader, gc off", "frozen reader", "frozen collector", "leaver"];
const READER: usize = 1;
const COLLECTOR: usize = 2;
const READER_GC_OFF: usize = 3;
const FROZEN_READER: usize = 4;
const FROZEN_COLLECTOR: usize = 5;
const LEAVER: usize = 6;

// What a child has done at its checkpoints.
const FORKED: &str = "forked";
const SUMMED: &str = "summed numbers";
const READ_ONE: &str = "read one object";
const READ: &str = "read the strings";
const COLLECTED: &str = "collected";
const GONE: &str = "gone";

/// The children and the steps that the script makes them take between [`FORKED`] and [`GONE`].
const CHILDREN: [(usize, &[&str]); 6] = [
    (READER, &[SUMMED, READ_ONE, READ]),
    (COLLECTOR, &[COLLECTED]),
    (READER_GC_OFF, &[READ]),
    (FROZEN_READER, &[READ]),
    (FROZEN_COLLECTOR, &[COLLECTED]),
    (LEAVER, &[]),
];

/// Name of the checkpoint at which this child has taken this step.
fn checkpoint(role: usize, step: &str) -> String {
    format!("{}: {step}", ROLES[role])
}

fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let python = match Interpreter::find() {
        Ok(python) => python,
        Err(lack) => return Ok(unmeasurable(lab, &lack)),
    };
    let script = script()?;
    let mut workload = start(lab, &python, script.path())?;
    // Python's allocator gives memory back, and takes it again.
    workload.known(Known { may_discard: true, ..Known::default() });
    workload.go(PARENT, &[PARENT], "built")?;
    let memory = Memory::new(&workload.take_samples());
    for (role, steps) in CHILDREN {
        lab.progress(ROLES[role]);
        workload.go(PARENT, &[PARENT, role], checkpoint(role, FORKED))?;
        for step in steps {
            workload.go(role, &[role], checkpoint(role, step))?;
        }
        workload.end(role, &[], checkpoint(role, GONE))?;
    }
    let (story, report) = workload.finish()?;
    let seen = Seen { story: &story, memory: &memory, python: &python };
    claims::check(&mut lab.claims, &seen);
    lab.tables.push(seen.table());
    Ok(Outcome { story, report })
}

fn unmeasurable(lab: &mut Lab<'_>, lack: &str) -> Outcome {
    let why =
        format!("{lack}; CPython 3.7 or later is needed: `cargo xtask setup` installs it (Debian: python3)");
    lab.claims.unmeasurable("pages of strings copied by reading them", "all of them", "pages", why);
    Outcome::default()
}

fn script() -> anyhow::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("cowtrace-")
        .suffix(".py")
        .tempfile()
        .context("cannot create a temporary file for the Python script")?;
    file.write_all(SCRIPT.as_bytes())
        .with_context(|| format!("cannot write the Python script to {}", file.path().display()))?;
    Ok(file)
}

fn start(lab: &mut Lab<'_>, python: &Interpreter, script: &Path) -> anyhow::Result<Workload> {
    let mut args: Vec<OsString> = interpreter::OPTIONS.map(OsString::from).to_vec();
    args.extend([script.into(), OBJECTS.to_string().into(), LAB_ARGUMENT.into()]);
    lab.start_program(&Program { path: &python.program, args, roles: &ROLES })
}
