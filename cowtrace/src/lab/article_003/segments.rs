//! Which parts of a program a fork shares: all of its segments, each named as the kernel names it.

use std::{fs, ops::Range};

use anyhow::Context;
use cowtrace_abi::Kind;
use serde_json::Value;

use super::{SOURCE, kb};
use crate::{
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        report::Figures,
        setting,
        story::{CHILD, Focus, PARENT, Since, Story},
    },
    proc::Vma,
};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "segments",
    source: SOURCE,
    title: "Stack, variables, heap, libraries: a fork shares all of them alike",
    about: "A program with one page of its own in each segment: stack, .data, .bss, heap, and the C library's data. It \
            forks, and the child writes once to each.",
    expect: "Before the fork, the first write to the page of .data copies it from the program's file, and the page of \
             .bss is the zero page until it is written. After the fork all five are shared, and each write copies one \
             page, which the report puts under the mapping's name.",
    lesson: "Copy on write is older than the fork in a process's life: its initialised variables are copied from the \
             file when they are first written, its empty ones come from the zero page. fork then treats all private \
             pages alike, wherever they came from.",
    focus: Focus::Named("[heap]"),
    size: None,
    run: segments,
};

/// The segments in the order in which the step reports their addresses, and whose mapping each lies in.
const SEGMENTS: [(&str, Owner); 5] = [
    ("stack", Owner::Named("[stack]")),
    (".data", Owner::Program),
    (".bss", Owner::Named("")),
    ("heap", Owner::Named("[heap]")),
    ("library data", Owner::Library),
];
const DATA: usize = 1;
const BSS: usize = 2;
const LIBRARY: usize = 4;

#[derive(Clone, Copy)]
enum Owner {
    /// The mapping with this name; empty for an anonymous one.
    Named(&'static str),
    /// The program's file.
    Program,
    /// The C library's file.
    Library,
}

/// What was found out while the processes lived.
struct Seen {
    /// Addresses of the five pages.
    pages: Vec<Range<u64>>,
    /// Addresses of a page of the stack that was not used before.
    unused_stack: Range<u64>,
    /// The program's file.
    program: String,
    /// The child's process id.
    child: u32,
    /// Of the page of .bss and that of the unused stack: how many read as zeros.
    zeros: Option<u64>,
}

fn segments(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let mut workload = lab.start("segments", &[], &["parent", "child"])?;
    let page_size = procfs::page_size();
    let pages = workload.take_samples().into_iter().map(|sample| {
        let start = sample[0] / page_size * page_size;
        start..start + page_size
    });
    let mut pages: Vec<Range<u64>> = pages.collect();
    let unused_stack = pages.pop().context("the program has not said where its memory is")?;
    let parent = workload.pid(PARENT).context("the program is gone")?;
    let link = format!("/proc/{parent}/exe");
    let program = fs::read_link(&link).with_context(|| format!("cannot read {link}"))?;
    workload.go(PARENT, &[PARENT], ".data written")?;
    workload.go(PARENT, &[PARENT], "zeros read")?;
    let zeros = workload.take_samples().first().map(|sample| sample[0]);
    workload.go(PARENT, &[PARENT], "all written")?;
    workload.go(PARENT, &[PARENT, CHILD], "forked")?;
    let child = workload.pid(CHILD).context("the child is gone")?;
    workload.go(CHILD, &[CHILD], "child wrote")?;
    let (story, report) = workload.finish()?;
    let seen = Seen { pages, unused_stack, program: program.display().to_string(), child, zeros };
    before_the_fork(lab, &story, &seen);
    after_the_fork(lab, &story, &seen);
    names(lab, &story, &seen, &report);
    lab.tables.push(table(&story, &seen));
    Ok(Outcome { story, report })
}

fn before_the_fork(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let faults =
        |name, segment: usize, kind| story.faults_before(name, PARENT, seen.pages.get(segment)?, Some(kind));
    let copied = || {
        let after_read = faults(".data written", DATA, Kind::FileAfterRead)?;
        Some(after_read + faults(".data written", DATA, Kind::FileFirstWrite)?)
    };
    let why = "the page was mapped from the program's file, for reading, and is private";
    claims.equal("file copies when an initialised variable is first written", 1, copied(), "pages", why);
    let private = || {
        let process = story.process_at(".data written", PARENT)?;
        Some(process.pages(seen.pages.get(DATA)?).len() as u64)
    };
    let why = "it is anonymous memory from then on, no page of the file any more";
    claims.equal(
        "anonymous pages behind the initialised variable after that write",
        1,
        private(),
        "pages",
        why,
    );
    let why = "no file holds anything for them";
    claims.equal(
        "uninitialised variables, static and local, that read as zeros",
        2,
        seen.zeros,
        "pages",
        why,
    );
    let resident = || {
        let process = story.process_at("zeros read", PARENT)?;
        Some((process.pages(seen.pages.get(BSS)?).len() + process.pages(&seen.unused_stack).len()) as u64)
    };
    let why = "reading maps the zero page, which everybody shares and smaps does not count";
    claims.equal("pages of the process's own behind the two after reading them", 0, resident(), "pages", why);
    let why = "the zero page may only be read: writing replaces it, and nothing needs to be copied";
    claims.equal(
        "zero-page faults when the uninitialised static variable is first written",
        1,
        faults("all written", BSS, Kind::Zero),
        "pages",
        why,
    );
    let local = story.faults_before("all written", PARENT, &seen.unused_stack, Some(Kind::Zero));
    let why = "the stack is anonymous memory as well, where no call has used it before: elsewhere an uninitialised local \
               variable holds what the last call has left there";
    claims.equal(
        "zero-page faults when a local one is, in a part of the stack never used",
        1,
        local,
        "pages",
        why,
    );
    let copies = SEGMENTS.iter().enumerate().map(|(segment, _)| faults("all written", segment, Kind::Copy));
    let why = "nobody shares anything with this process yet";
    claims.equal("copies of any of the five pages before the fork", 0, copies.sum(), "pages", why);
}

fn after_the_fork(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let common = |name| {
        let (parent, child) = (story.process_at(name, PARENT)?, story.process_at(name, CHILD)?);
        Some(seen.pages.iter().map(|page| parent.same_frames(child, page)).sum::<u64>())
    };
    let all = SEGMENTS.len() as u64;
    let why = "fork treats all private mappings alike";
    // Larger pages of the library have more on them that fork itself writes to.
    claims.check(
        Test::equal("of the five pages, those with one frame for both after the fork", all, common("forked"))
            .unit("pages")
            .because(why)
            .unless(setting::larger_pages()),
    );
    let why = "each was written since";
    claims.equal(
        "of the five pages, those with one frame for both after the child has written",
        0,
        common("child wrote"),
        "pages",
        why,
    );
    for (segment, (name, _)) in SEGMENTS.iter().enumerate() {
        let why = "one shared page written, one page copied";
        let copies = mapping(story, seen, segment).and_then(|vma| {
            story.faults_before("child wrote", CHILD, &(vma.start..vma.end), Some(Kind::Copy))
        });
        let setting = || if segment == LIBRARY { setting::larger_pages() } else { None };
        let claim = format!("copies in the child's mapping of {name}");
        claims.check(Test::equal(claim, 1, copies).unit("pages").because(why).unless(setting()));
        for (role, whose, why) in [
            (CHILD, "child", "its copy"),
            (PARENT, "parent", "the child has left it alone with the original"),
        ] {
            let moved = || {
                let of = |at| {
                    let vma = story.process_at(at, role)?.snapshot.vma_of(page_number(seen, segment)?)?;
                    Some(vma.private_dirty_kb)
                };
                of("child wrote")?.checked_sub(of("forked")?)
            };
            let claim = format!("growth of Private_Dirty of the {whose}'s mapping of {name}");
            claims.check(Test::equal(claim, kb(1), moved()).unit("kB").because(why).unless(setting()));
        }
    }
}

/// Whether the report puts the copies under the right names.
fn names(lab: &mut Lab<'_>, story: &Story, seen: &Seen, report: &Value) {
    for (segment, (name, owner)) in SEGMENTS.iter().enumerate() {
        let listed = || {
            let vma = mapping(story, seen, segment)?;
            story.faults(CHILD, Some(&(vma.start..vma.end)), Some(Kind::Copy), Since::Start)
        };
        let region = seen.pages.get(segment).and_then(|page| region(report, seen.child, page.start));
        let named = |region: &Value| match (owner, region["name"].as_str()?) {
            (Owner::Named(expected), is) => (is == *expected).then_some(()),
            (Owner::Program, is) => (is == seen.program).then_some(()),
            (Owner::Library, is) => (is.contains("libc") && is != seen.program).then_some(()),
        };
        let copies =
            region.filter(|region| named(region).is_some()).and_then(|r| r["faults"]["copy"].as_u64());
        let label = match owner {
            Owner::Named("") => "a nameless mapping",
            Owner::Named(label) => label,
            Owner::Program => "the program's file",
            Owner::Library => "libc's file",
        };
        let claim = format!("{name}: copies that the tracer's report has for the child under {label}");
        let why =
            "the report attributes each fault to the mapping that smaps shows at its address, by its name";
        let test = Test::equal(claim, listed().unwrap_or_default(), copies).unit("pages").because(why);
        let setting = match segment {
            BSS => heap_begins_at_bss(),
            LIBRARY => linked_statically(story),
            _ => None,
        };
        lab.claims.check(test.unless(setting));
    }
}

/// The mapping of the child that holds a segment's page.
fn mapping<'a>(story: &'a Story, seen: &Seen, segment: usize) -> Option<&'a Vma> {
    story.process_at("child wrote", CHILD)?.snapshot.vma_of(page_number(seen, segment)?)
}

fn page_number(seen: &Seen, segment: usize) -> Option<u64> {
    Some(seen.pages.get(segment)?.start / procfs::page_size())
}

/// The mapping of a process that the tracer's report has for an address.
fn region(report: &Value, pid: u32, address: u64) -> Option<&Value> {
    let processes = report["processes"].as_array()?;
    let regions = processes.iter().find(|process| process["pid"] == pid)?["regions"].as_array()?;
    let number = |value: &Value| u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok();
    regions.iter().find(|region| {
        let ends = number(&region["start"]).zip(number(&region["end"]));
        ends.is_some_and(|(start, end)| (start..end).contains(&address))
    })
}

/// Why .bss may not be a nameless mapping.
fn heap_begins_at_bss() -> Option<String> {
    const FILE: &str = "/proc/sys/kernel/randomize_va_space";
    let value = fs::read_to_string(FILE).ok()?;
    (value.trim() != "2").then(|| {
        format!(
            "{FILE} is {}: the heap begins right behind .bss, and both are one mapping; 2 is usual",
            value.trim()
        )
    })
}

/// Why there may be no library.
fn linked_statically(story: &Story) -> Option<String> {
    let vmas = &story.process(PARENT)?.snapshot.vmas;
    let shared = vmas.iter().any(|vma| vma.name.contains("libc"));
    (!shared).then(|| "the program is linked statically: the C library's data are its own".to_owned())
}

/// Faults by which a page becomes the process's own before it is shared.
const ORIGINS: [(Kind, &str); 4] = [
    (Kind::Anon, "first touch"),
    (Kind::Zero, "zero page"),
    (Kind::FileAfterRead, "file copy"),
    (Kind::FileFirstWrite, "file copy"),
];

/// What became of each segment's page.
fn table(story: &Story, seen: &Seen) -> Figures {
    let columns =
        ["segment", "mapping", "permissions", "became its own by", "copies in the child after the fork"];
    let row = |(segment, (name, _)): (usize, &(&str, Owner))| {
        let vma = mapping(story, seen, segment)?;
        let page = seen.pages.get(segment)?;
        let made = ORIGINS.iter().filter(|(kind, _)| {
            let faults = story.faults(PARENT, Some(page), Some(*kind), Since::Start);
            faults.is_some_and(|faults| faults > 0)
        });
        let made: Vec<&str> = made.map(|(_, name)| *name).collect();
        let copies = story.faults_before("child wrote", CHILD, &(vma.start..vma.end), Some(Kind::Copy))?;
        Some(vec![
            (*name).to_owned(),
            vma.label().to_owned(),
            vma.perms.clone(),
            made.join(", "),
            copies.to_string(),
        ])
    };
    Figures {
        title: "One page in each segment".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: SEGMENTS.iter().enumerate().filter_map(row).collect(),
    }
}
