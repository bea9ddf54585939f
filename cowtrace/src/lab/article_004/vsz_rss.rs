//! `vsz-rss`: what VSZ and RSS say of a child, and which figure does follow its copies.

use cowtrace_abi::Kind;

use super::SOURCE;
use crate::{
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        report::Figures,
        setting,
        story::{CHILD, Focus, PARENT, Since, Story},
    },
    proc::{Status, Vma},
};

const MIB: u64 = 1 << 20;
/// The child of the table's case.
const TABLE_CHILD: usize = 2;

/// A block of which a part is filled, and a child that writes a part of that.
struct Case {
    mapped: u64,
    filled: u64,
    written: u64,
    child: usize,
    /// Names of its checkpoints.
    at: [&'static str; 5],
}

const FILLED: usize = 0;
const FORKED: usize = 1;
const WROTE: usize = 2;
const GONE: usize = 3;
const FREED: usize = 4;

/// What the source's program does.
const PROGRAM: Case = Case {
    mapped: 50 * MIB,
    filled: 50 * MIB,
    written: 25 * MIB,
    child: CHILD,
    at: ["filled", "forked", "child wrote", "child gone", "freed"],
};

/// What the source's table is about.
const TABLE: Case = Case {
    mapped: 100 * MIB,
    filled: 80 * MIB,
    written: 40 * MIB,
    child: TABLE_CHILD,
    at: ["table: filled", "table: forked", "table: child wrote", "table: child gone", "table: freed"],
};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "vsz-rss",
    source: SOURCE,
    title: "A child's RSS is the parent's, from the start: Private_Dirty and Pss tell what it costs",
    about: "A process fills 50 MiB and forks, and the child writes 25 MiB of them. Then the same with 100 MiB, of \
            which 80 are filled and 40 written by the child.",
    expect: "VmSize is the same in both, before and after. VmRSS is about the same as well: shared pages count. \
             The 25 MiB show in Private_Dirty, and by half in Pss.",
    lesson: "Neither VSZ nor RSS moves when pages are copied: the one counts addresses, the other pages that are \
             mapped, shared or not. A child that looks as large as its parent may cost next to nothing. What it \
             really costs is Private_Dirty of smaps, and Pss adds up over the family; both make the parent \
             move as well.",
    focus: Focus::Buffer("the block"),
    size: None,
    run,
};

fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let cases = [&PROGRAM, &TABLE];
    let args: Vec<String> = cases
        .iter()
        .flat_map(|case| [case.mapped, case.filled, case.written])
        .map(|bytes| bytes.to_string())
        .collect();
    let mut workload = lab.start("vsz-rss", &args, &["parent", "child", "table's child"])?;
    for case in cases {
        workload.go(PARENT, &[PARENT], case.at[FILLED])?;
        workload.go(PARENT, &[PARENT, case.child], case.at[FORKED])?;
        workload.go(case.child, &[case.child], case.at[WROTE])?;
        workload.end(case.child, &[], case.at[GONE])?;
        workload.go(PARENT, &[PARENT], case.at[FREED])?;
    }
    let (story, report) = workload.finish()?;
    addresses(lab, &story);
    resident(lab, &story);
    costs(lab, &story);
    source_table(lab, &story);
    lab.tables.push(table(&story));
    Ok(Outcome { story, report })
}

fn status(story: &Story, case: &Case, at: usize, role: usize) -> Option<Status> {
    story.status_at(case.at[at], role)
}

fn vm_size(story: &Story, case: &Case, at: usize, role: usize) -> Option<u64> {
    Some(status(story, case, at, role)?.vm_size_kb)
}

fn vm_rss(story: &Story, case: &Case, at: usize, role: usize) -> Option<u64> {
    Some(status(story, case, at, role)?.vm_rss_kb)
}

/// VSZ.
fn addresses(lab: &mut Lab<'_>, story: &Story) {
    let size = |at, role| vm_size(story, &PROGRAM, at, role);
    let of_parent = size(FILLED, PARENT).unwrap_or(0);
    let claims = &mut lab.claims;
    let why = "fork copies the list of mappings; what of it is in memory does not matter";
    claims.equal(
        "VmSize of the child right after fork is the parent's",
        of_parent,
        size(FORKED, CHILD),
        "kB",
        why,
    );
    let why = "a copy changes what is behind an address, not the addresses";
    claims.equal("VmSize of the child after it wrote 25 MiB", of_parent, size(WROTE, CHILD), "kB", why);
    claims.equal(
        "VmSize of the parent after the child",
        of_parent,
        size(GONE, PARENT),
        "kB",
        "nothing was mapped",
    );
    let vmas: Vec<&Vma> = story
        .process_at(PROGRAM.at[FILLED], PARENT)
        .map(|process| process.snapshot.vmas.iter().filter(|vma| vma.name != "[vsyscall]").collect())
        .unwrap_or_default();
    let sum = vmas.iter().map(|vma| vma.size_kb).sum();
    let why = "the total of what is mapped ([vsyscall] is the kernel's, and not in it)";
    claims.equal("VmSize is the sum of the Sizes in smaps", sum, size(FILLED, PARENT), "kB", why);
    let span = vmas.first().zip(vmas.last()).map_or(0, |(first, last)| (last.end - first.start) / 1024);
    claims.check(
        Test::equal(
            "VSZ includes the gaps: it reaches from the first mapping to the last",
            span,
            size(FILLED, PARENT),
        )
        .unit("kB")
        .known_wrong(format!(
            "gaps between mappings are in nobody's count; VmSize is the {} mappings and nothing else",
            vmas.len()
        )),
    );
}

/// RSS as the source has it.
fn resident(lab: &mut Lab<'_>, story: &Story) {
    let rss = |at, role| vm_rss(story, &PROGRAM, at, role);
    let claims = &mut lab.claims;
    claims.check(
        Test::at_most("RSS of the child is tiny right after fork", 1024, rss(FORKED, CHILD))
            .unit("kB")
            .known_wrong(
                "fork fills the child's page tables with the parent's pages, and each page that is mapped counts, \
                 copied or not",
            ),
    );
    let grown = || Some(rss(WROTE, CHILD)?.saturating_sub(rss(FORKED, CHILD)?));
    let (written_kb, some_kb) = (PROGRAM.written / 1024, 2048);
    claims.check(
        Test::within(
            "RSS of the child grows by what it writes",
            written_kb - some_kb..=written_kb + some_kb,
            grown(),
        )
        .unit("kB")
        .known_wrong("a copy takes the place of a shared page that was counted as well"),
    );
    let why = "it was the child that wrote, and each old page is still the parent's";
    let before = rss(FILLED, PARENT).unwrap_or(0) as f64;
    let after = rss(GONE, PARENT).map(|kb| kb as f64);
    claims.check(
        Test::near("RSS of the parent is the same after the child", before, 0.02, after)
            .unit("kB")
            .because(why)
            .unless(setting::larger_pages()),
    );
    let both = |at: &str, get: fn(&Vma) -> u64| {
        Some(get(story.buffer_at(at, PARENT)?) + get(story.buffer_at(at, CHILD)?))
    };
    let forked = PROGRAM.at[FORKED];
    let page_kb = story.process(PARENT).map_or(4, |process| process.snapshot.page_size / 1024);
    let used = story.buffer_frames_in_use(forked).map(|frames| frames * page_kb);
    claims.check(
        Test::equal(
            "RSS is the true cost: both blocks together have the memory that their frames take",
            used.unwrap_or(0),
            both(forked, |vma| vma.rss_kb),
        )
        .unit("kB")
        .known_wrong(
            "each shared page counts once for each process that maps it, and here that is all of them",
        ),
    );
    let shared = story.buffer_at(forked, PARENT).map_or(0, |vma| vma.shared_dirty_kb);
    let over = || both(forked, |vma| vma.rss_kb)?.checked_sub(used?);
    let why = "RSS overcounts by exactly the pages that are shared";
    claims.equal("memory that the two RSS count twice", shared, over(), "kB", why);
    let why = "each page is divided among those who map it, so the sum is what the frames take";
    claims.equal(
        "Pss of both blocks together is what their frames take",
        used.unwrap_or(0),
        both(forked, |vma| vma.pss_kb),
        "kB",
        why,
    );
}

/// What does move when the child writes.
fn costs(lab: &mut Lab<'_>, story: &Story) {
    let claims = &mut lab.claims;
    let (pages, page_kb) = story.process_at(PROGRAM.at[WROTE], CHILD).map_or((0, 0), |process| {
        (process.buffer_pages_in(PROGRAM.written), process.snapshot.page_size / 1024)
    });
    let copies = story.buffer_faults(CHILD, Kind::Copy, Since::Start);
    let why = "25 MiB, and one page more because the block begins behind the allocator's own few bytes";
    claims.equal("copies in the child's block", pages, copies, "pages", why);
    for (role, who) in [(CHILD, "child"), (PARENT, "parent")] {
        let mut grown = |field: &str, expected, get: fn(&Vma) -> u64, why| {
            let at = |at: usize| story.buffer_at(PROGRAM.at[at], role).map(get);
            let kb = || at(WROTE)?.checked_sub(at(FORKED)?);
            claims.equal(format!("{field} of the {who}'s block grows by"), expected, kb(), "kB", why);
        };
        grown("Rss", 0, |vma| vma.rss_kb, "as many pages as before");
        let why = match role {
            CHILD => "each copy is a page of its own",
            _ => "each copied page is left to the parent alone",
        };
        grown("Private_Dirty", pages * page_kb, |vma| vma.private_dirty_kb, why);
        grown("Pss", pages * page_kb / 2, |vma| vma.pss_kb, "what counted half counts in full");
    }
    let frames = |at: usize| story.buffer_frames_in_use(PROGRAM.at[at]);
    let more = || frames(WROTE)?.checked_sub(frames(FORKED)?);
    let why = "the memory that the child's writes really took, by frame numbers";
    claims.equal("frames for both blocks become more by", pages, more(), "frames", why);
}

/// The figures of the source's table.
fn source_table(lab: &mut Lab<'_>, story: &Story) {
    let size = |at, role| vm_size(story, &TABLE, at, role);
    let rss = |at, role| vm_rss(story, &TABLE, at, role);
    let claims = &mut lab.claims;
    // The program and its libraries are on top.
    let range = |mib: u64| mib * 1024..=(mib + 8) * 1024;
    // VmRSS is exact to some pages, and what is on top is whole pages.
    let mut about = |claim: &str, mib, measured, why| {
        let test = Test::within(format!("table: {claim}"), range(mib), measured).unit("kB");
        claims.check(test.because(why).unless(setting::larger_pages()));
    };
    about(
        "parent's VSZ before fork, 100 MB",
        100,
        size(FILLED, PARENT),
        "the block, the program, libraries, stack",
    );
    about("parent's RSS before fork, 80 MB", 80, rss(FILLED, PARENT), "only what was filled is in memory");
    about("child's VSZ after fork, 100 MB", 100, size(FORKED, TABLE_CHILD), "the same mappings");
    about("child's VSZ after it wrote 40 MB, 100 MB", 100, size(WROTE, TABLE_CHILD), "no mapping changed");
    about("parent's RSS after the child wrote, 80 MB", 80, rss(WROTE, PARENT), "it keeps its own pages");
    let shared = "the child maps all 80 MB of the parent's pages";
    claims.check(
        Test::at_most("table: child's RSS after fork, a few KB", 1024, rss(FORKED, TABLE_CHILD))
            .unit("kB")
            .known_wrong(shared),
    );
    let measured = rss(WROTE, TABLE_CHILD).map(|kb| kb as f64);
    claims.check(
        Test::near("table: child's RSS after it wrote 40 MB, 40 MB", 40.0 * 1024.0, 0.1, measured)
            .unit("kB")
            .known_wrong("it is 80 MB from the start: 40 of its own by now, and 40 that are still shared"),
    );
}

/// The source's table as it should be, and the columns that it lacks.
fn table(story: &Story) -> Figures {
    let moments = [
        ("before fork", FILLED),
        ("after fork, nothing written", FORKED),
        ("child wrote 40 MB", WROTE),
        ("child gone", GONE),
    ];
    let row = |(label, at): (&str, usize)| -> Vec<String> {
        let figures = [PARENT, TABLE_CHILD].into_iter().flat_map(|role| {
            let block = story.buffer_at(TABLE.at[at], role);
            [
                vm_size(story, &TABLE, at, role),
                vm_rss(story, &TABLE, at, role),
                block.map(|vma| vma.pss_kb),
                block.map(|vma| vma.private_dirty_kb),
            ]
        });
        [label.to_owned()]
            .into_iter()
            .chain(figures.map(|kb| kb.map_or(String::new(), |kb| kb.to_string())))
            .collect()
    };
    let columns = ["event", "parent VSZ", "RSS", "Pss of the block", "Private_Dirty of the block"];
    let of_child = ["child VSZ", "RSS", "Pss of the block", "Private_Dirty of the block"];
    Figures {
        title: "The source's table, measured: 100 MB mapped, 80 MB filled; kB".to_owned(),
        columns: columns.into_iter().chain(of_child).map(str::to_owned).collect(),
        rows: moments.into_iter().map(row).collect(),
    }
}
