//! Pinned pages: a fork copies them at once, so that the parent keeps the pages that a device works on.

use std::{fs, ops::Range};

use cowtrace_abi::Kind;
use serde_json::Value;

use super::{SOURCE, kb};
use crate::{
    lab::{
        experiment::{Experiment, Lab, Outcome},
        story::{CHILD, Focus, PARENT, Story},
    },
    ledger::Known,
};

const PAGES: u64 = 32;

const PINNED: &str = "pinned";
const FORKED: &str = "forked";
const PARENT_WROTE_PINNED: &str = "parent wrote pinned";
const PARENT_WROTE_OTHERS: &str = "parent wrote others";
const CHILD_WROTE: &str = "child wrote pinned";

const COPIED_AT_FORK: &str = "pages that the tracer counts as copied at the fork because they are pinned";

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "pinned-pages",
    source: SOURCE,
    title: "Pinned pages are copied by the fork itself, before anybody writes",
    about: "Half of a buffer is pinned, as buffers for direct input and output are; then the process forks. The parent \
            writes to the pinned half, then to the other; the child writes to what it has of the pinned half.",
    expect: "Right after the fork the child has frames of its own for the pinned half, and shares the other one. Nobody \
             takes a fault in the pinned half any more, neither parent nor child.",
    lesson: "A device writes to a frame, not to an address. Were the page shared, the parent's next write would move it \
             to another frame, away from the device. So the fork copies: for a process with large registered buffers \
             (io_uring, RDMA, graphics), fork is as expensive as copying them, and no page fault tells of it.",
    focus: Focus::Buffer("the buffer"),
    size: None,
    run: pinned_pages,
};

/// The two halves of the buffer, and what the processes counted themselves.
struct Seen {
    pinned: Range<u64>,
    others: Range<u64>,
    /// Minor faults of the parent's writes to the two halves, and of the child's; the second figure of the last is the
    /// number of pages that the child found as its parent had left them.
    samples: Vec<[u64; 4]>,
}

fn pinned_pages(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("pinned-pages", &[PAGES.to_string()], &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], PINNED)?;
    if workload.take_samples().first().is_none_or(|sample| sample[0] == 0) {
        lab.claims.unmeasurable(COPIED_AT_FORK, PAGES, "pages", nothing_pins());
        let (story, report) = workload.finish()?;
        return Ok(Outcome { story, report });
    }
    let buffer = workload.story().process(PARENT).map_or(0..0, |process| process.buffer.clone());
    let middle = buffer.start + PAGES * procfs::page_size();
    workload.known(Known { pinned: buffer.start..middle, ..Known::default() });
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(PARENT, &[PARENT], PARENT_WROTE_PINNED)?;
    workload.go(PARENT, &[PARENT], PARENT_WROTE_OTHERS)?;
    workload.go(CHILD, &[CHILD], CHILD_WROTE)?;
    let samples = workload.take_samples();
    let parent = workload.pid(PARENT).unwrap_or_default();
    let (story, report) = workload.finish()?;
    let seen = Seen { pinned: buffer.start..middle, others: middle..buffer.end, samples };
    at_the_fork(lab, &story, &seen);
    writes(lab, &story, &seen);
    tracers_count(lab, &report, parent);
    Ok(Outcome { story, report })
}

/// Why no memory could be pinned, and what helps.
fn nothing_pins() -> String {
    const SETTING: &str = "/proc/sys/kernel/io_uring_disabled";
    let io_uring = match fs::read_to_string(SETTING) {
        Ok(value) => format!("io_uring is refused ({SETTING} is {})", value.trim()),
        Err(_) => "io_uring is not there or refused".to_owned(),
    };
    format!(
        "nothing pins memory here: {io_uring}, and so is AF_XDP; `sysctl kernel.io_uring_disabled=0`, or a kernel with \
         CONFIG_IO_URING or CONFIG_XDP_SOCKETS, makes it measurable"
    )
}

fn at_the_fork(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let common = |half| {
        let (parent, child) = (story.process_at(FORKED, PARENT)?, story.process_at(FORKED, CHILD)?);
        Some(parent.same_frames(child, half))
    };
    let why = "the fork has copied each pinned page for the child";
    claims.equal(
        "pinned pages with one frame for both right after the fork",
        0,
        common(&seen.pinned),
        "pages",
        why,
    );
    let why = "these are shared as usual";
    claims.equal(
        "other pages with one frame for both right after the fork",
        PAGES,
        common(&seen.others),
        "pages",
        why,
    );
    let kept = || {
        let (before, after) = (story.process_at(PINNED, PARENT)?, story.process_at(FORKED, PARENT)?);
        Some(before.same_frames(after, &seen.pinned))
    };
    let why = "the copy is the child's; the frame that the device knows stays with the parent";
    claims.equal("frames of the pinned pages that the parent kept", PAGES, kept(), "pages", why);
    for (role, name, why) in [
        (PARENT, "parent", "the pinned half is still its own, the other one is shared"),
        (CHILD, "child", "its copies of the pinned half, though it has not run in this buffer yet"),
    ] {
        let dirty = story.buffer_at(FORKED, role).map(|vma| vma.private_dirty_kb);
        let claim = format!("Private_Dirty of the {name}'s buffer right after the fork");
        claims.equal(claim, kb(PAGES), dirty, "kB", why);
        let faults = story.faults_before(FORKED, role, &(seen.pinned.start..seen.others.end), None);
        let why = "the copies were made inside of the system call";
        claims.equal(format!("faults of the {name} in the buffer during the fork"), 0, faults, "faults", why);
    }
}

fn writes(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let own_count = |index: usize| seen.samples.get(index).map(|sample| sample[0]);
    let why = "its pages were never write-protected: the fork left them as they were";
    let faults = story.faults_before(PARENT_WROTE_PINNED, PARENT, &seen.pinned, None);
    claims.equal("faults when the parent writes the pinned pages", 0, faults, "faults", why);
    let why = "also by its own count (getrusage)";
    claims.equal(
        "minor faults of the parent while it writes the pinned pages",
        0,
        own_count(0),
        "faults",
        why,
    );
    let why = "they are shared, and copied when written";
    let copies = story.faults_before(PARENT_WROTE_OTHERS, PARENT, &seen.others, Some(Kind::Copy));
    claims.equal("copies when the parent writes the other pages", PAGES, copies, "pages", why);
    let why = "one fault for each copy";
    claims.equal(
        "minor faults of the parent while it writes the other pages",
        PAGES,
        own_count(1),
        "faults",
        why,
    );
    let why = "the copies were made for it, ready to be written";
    let faults = story.faults_before(CHILD_WROTE, CHILD, &seen.pinned, None);
    claims.equal("faults when the child writes its copies of the pinned pages", 0, faults, "faults", why);
    let why = "also by its own count (getrusage)";
    claims.equal("minor faults of the child while it writes its copies", 0, own_count(2), "faults", why);
    let why = "the copies are from the moment of the fork; what the parent wrote since is not in them";
    let as_at_fork = seen.samples.get(2).map(|sample| sample[1]);
    claims.equal("pages that the child finds as they were at the fork", PAGES, as_at_fork, "pages", why);
}

/// Not every backend can see these copies.
fn tracers_count(lab: &mut Lab<'_>, report: &Value, parent: u32) {
    let processes = report["processes"].as_array();
    let process = processes.and_then(|list| list.iter().find(|process| process["pid"] == parent));
    let counted = process.and_then(|process| process["faults"]["pinned"].as_u64());
    if counted.is_some() {
        let why = "fork copies them one by one, in the parent's context";
        return lab.claims.equal(COPIED_AT_FORK, PAGES, counted, "pages", why);
    }
    let backend = &report["backend"];
    let reasons = backend["unknown"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reason =
        reasons.filter_map(|reason| reason.strip_prefix("pinned: ")).next().unwrap_or("it does not say why");
    let name = backend["name"].as_str().unwrap_or("tracer's");
    let why = format!(
        "the {name} backend is blind to them: {reason}; a backend that hooks the kernel's own functions sees them \
         (--backend fentry or kprobe, where the kernel allows it). The frames above prove them"
    );
    lab.claims.unmeasurable(COPIED_AT_FORK, PAGES, "pages", why);
}
