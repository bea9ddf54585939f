//! `overcommit`: memory that is granted and not there, and what of it a fork copies.

mod policy;

use cowtrace_abi::Kind;
use serde_json::Value;

use super::SOURCE;
use crate::{
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        setting,
        size::Bytes,
        story::{CHILD, Focus, Observed, PARENT, Since, Story},
        workload::Workload,
    },
    proc::Vma,
};
use policy::{HEURISTIC, Policy};

const BEFORE: &str = "forks timed without it";
const GRANTED: &str = "allocated";
const WROTE: &str = "1M written";
const TIMED: &str = "forks timed with it";
const FORKED: &str = "forked";
const CHILD_WROTE: &str = "child wrote 1M";

/// What the source asks for.
const BLOCK_BYTES: u64 = 4 << 30;
/// What it writes of that.
const WRITTEN_BYTES: u64 = 1 << 20;
/// Timed without the block, and as many with it: the fastest of each is what fork takes on an idle machine.
const FORKS: u64 = 40;
/// Between 1, as it should be, and the hundreds that it would be if addresses counted; a busy machine is far below.
const MOST_RATIO: f64 = 10.0;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "overcommit",
    source: SOURCE,
    title: "4 GiB granted, 1 MiB used: memory is taken when it is written",
    about: "A process asks malloc for 4 GiB, writes 1 MiB of it, and forks; the child writes the same 1 MiB. Then \
            it asks for three blocks of half of all memory and swap each, and for one that is larger than both \
            together.",
    expect: "VmSize grows by 4 GiB at once, Rss only by what is written: a first touch per page, no copy. fork is \
             as fast as before. The three blocks are granted, though together they are more than there is; the \
             single one is not.",
    lesson: "The kernel grants addresses and finds memory when they are written. The default policy (0) refuses \
             only a request that could never be met, each looked at alone; so the sum may exceed what there is. \
             Whether a fork is cheap depends on what was touched, not on VmSize: only touched pages have \
             page-table entries to copy. This is also why a fork of a process that fills half the memory is \
             allowed at all.",
    focus: Focus::Buffer("the block"),
    size: None,
    run,
};

fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let policy = Policy::read()?;
    let args = [BLOCK_BYTES, WRITTEN_BYTES, FORKS, policy.half(), policy.too_much()];
    let mut workload = lab.start("overcommit", &args.map(|arg| arg.to_string()), &["parent", "child"])?;
    let samples = |workload: &mut Workload, name| -> anyhow::Result<Vec<u64>> {
        workload.go(PARENT, &[PARENT], name)?;
        Ok(workload.take_samples().into_iter().map(|[figure, ..]| figure).collect())
    };
    let before_ns = samples(&mut workload, BEFORE)?.into_iter().min();
    let granted = samples(&mut workload, GRANTED)?.first().copied();
    workload.go(PARENT, &[PARENT], WROTE)?;
    let with_ns = samples(&mut workload, TIMED)?.into_iter().min();
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(CHILD, &[CHILD], CHILD_WROTE)?;
    workload.end(CHILD, &[], "child gone")?;
    workload.go(PARENT, &[PARENT], "freed")?;
    workload.go(PARENT, &[PARENT], "more than there is")?;
    let more = workload.take_samples().first().copied();
    let (story, report) = workload.finish()?;
    grants(lab, &policy, granted, more);
    let refused = policy.refuses(BLOCK_BYTES);
    sizes(lab, &story, refused.as_deref());
    faults(lab, &story, refused.as_deref());
    forks(lab, &story, &report, before_ns, with_ns);
    lab.tables.push(policy.table());
    Ok(Outcome { story, report })
}

/// What the policy lets pass.
fn grants(lab: &mut Lab<'_>, policy: &Policy, granted: Option<u64>, more: Option<[u64; 4]>) {
    let claims = &mut lab.claims;
    let other = policy.other_than_default();
    let setting = policy.setting.into();
    claims.check(
        Test::equal("vm.overcommit_memory is 0 by default", HEURISTIC, Some(setting))
            .unit("policy")
            .because("nobody changed it")
            .unless(other.clone()),
    );
    claims.check(
        Test::equal("malloc of 4 GiB succeeds", 1, granted)
            .unit("blocks")
            .because("it asks for addresses, and one request below memory and swap together passes")
            .unless(policy.refuses(BLOCK_BYTES)),
    );
    claims.check(
        Test::equal(
            "blocks of half of memory and swap each that are granted: more than there is",
            3,
            more.map(|[halves, ..]| halves),
        )
        .unit("blocks")
        .because("each request is looked at alone, not together with what was granted before")
        .unless(policy.refuses_sums()),
    );
    // Granted under other policies, or refused for another reason.
    if other.is_none() {
        let claim = "the default policy grants one block of more than memory and swap, too";
        claims.check(
            Test::equal(claim, 1, more.map(|[_, too_much, ..]| too_much)).unit("blocks").known_wrong(format!(
                "policy 0 refuses a single request ({} here) for more than all memory and swap ({}); so on a machine \
                 with less than 4 GiB of both, malloc of 4 GiB fails",
                Bytes(policy.too_much()),
                Bytes(policy.total)
            )),
        );
    }
}

/// What the block takes of addresses and of memory.
fn sizes(lab: &mut Lab<'_>, story: &Story, refused: Option<&str>) {
    let claims = &mut lab.claims;
    let refused = || refused.map(str::to_owned);
    let block = story.process_at(GRANTED, PARENT);
    let (whole, page_kb) = block
        .map_or((0, 4), |process| (process.buffer_pages_in(BLOCK_BYTES), process.snapshot.page_size / 1024));
    let written = block.map_or(0, |process| process.buffer_pages_in(WRITTEN_BYTES));
    let mut grown = |claim: &str, from, to, expected, get: fn(&Observed) -> Option<u64>, why: &str| {
        let at = |name| get(story.process_at(name, PARENT)?);
        let kb = || at(to)?.checked_sub(at(from).unwrap_or(0));
        claims.check(Test::equal(claim, expected, kb()).unit("kB").because(why).unless(refused()));
    };
    let rss: fn(&Observed) -> Option<u64> = |process| Some(process.buffer_mapping()?.rss_kb);
    let heap_kb = block.and_then(|process| process.snapshot.named("[heap]")).map_or(0, |heap| heap.size_kb);
    let vm_size: fn(&Observed) -> Option<u64> = |process| Some(process.status.vm_size_kb);
    let why = format!(
        "4 GiB, one page more for the allocator's own few bytes, and the {heap_kb} kB of heap that the first \
         malloc of a process makes"
    );
    grown("VmSize grows with malloc by", BEFORE, GRANTED, whole * page_kb + heap_kb, vm_size, &why);
    let why = "the page in which malloc noted the size; the rest is addresses";
    grown("Rss of the block after malloc", BEFORE, GRANTED, page_kb, rss, why);
    let why = "memory is taken page by page as it is written; the first page was there";
    grown(
        "Rss of the block grows by, when 1 MiB is written",
        GRANTED,
        WROTE,
        written.saturating_sub(1) * page_kb,
        rss,
        why,
    );
    let vm_rss = || {
        let at = |name| Some(story.status_at(name, PARENT)?.vm_rss_kb);
        at(WROTE)?.checked_sub(at(BEFORE)?)
    };
    // VmRSS is kept in batches per CPU, and not exact on every kernel.
    let claim = "VmRSS of the process grows with 4 GiB allocated and 1 MiB written by";
    let why = "1 MiB of 4 GiB was written: that is what is used";
    let setting = refused().or_else(setting::larger_pages);
    claims.check(Test::within(claim, 512..=2048, vm_rss()).unit("kB").because(why).unless(setting));
    let dirty: fn(&Vma) -> u64 = |vma| vma.private_dirty_kb;
    let why = "every page of the block that is in memory was written";
    let measured = story.buffer_at(WROTE, PARENT).map(dirty);
    claims.check(
        Test::equal("Private_Dirty of the block", written * page_kb, measured)
            .unit("kB")
            .because(why)
            .unless(refused()),
    );
}

/// How the memory came.
fn faults(lab: &mut Lab<'_>, story: &Story, refused: Option<&str>) {
    let claims = &mut lab.claims;
    let written =
        story.process_at(GRANTED, PARENT).map_or(0, |process| process.buffer_pages_in(WRITTEN_BYTES));
    // The parent's buffer is gone by the last checkpoint.
    let range = story.process_at(WROTE, PARENT).map(|process| process.buffer.clone());
    let at = |checkpoint: &str, kind| story.checkpoint(checkpoint)?.faults_of_all(range.as_ref()?, kind);
    let mut faults = |claim: &str, expected, measured, why: &str| {
        claims.check(
            Test::equal(claim, expected, measured)
                .unit("pages")
                .because(why)
                .unless(refused.map(str::to_owned)),
        );
    };
    let why = format!(
        "{written} pages hold the 1 MiB behind the allocator's few bytes, and malloc touched the first"
    );
    faults(
        "first touches in the block when 1 MiB is written",
        written.saturating_sub(1),
        at(WROTE, Kind::Anon),
        &why,
    );
    let why = "a first touch gets a new zeroed page; there is nothing to copy from";
    faults("copies in the block before any fork", 0, at(WROTE, Kind::Copy), why);
    let why = "the timed children wrote nothing in it";
    faults("copies in the block by the timed forks", 0, at(TIMED, Kind::Copy), why);
    let copies = story.buffer_faults(CHILD, Kind::Copy, Since::Start);
    let why = "the child writes what the parent has written: now each page is a copy";
    faults("copies in the block when the child writes the same 1 MiB", written, copies, why);
}

/// What the 4 GiB mean to fork.
fn forks(lab: &mut Lab<'_>, story: &Story, report: &Value, before_ns: Option<u64>, with_ns: Option<u64>) {
    let claims = &mut lab.claims;
    let ratio = with_ns.zip(before_ns).map(|(with, before)| with as f64 / before as f64);
    claims.check(
        Test::at_most(
            "fork's time does not follow 4 GiB of addresses: with them, as a multiple of without",
            MOST_RATIO,
            ratio,
        )
        .unit("times")
        .because(
            "only the 1 MiB that was touched has entries to copy; all 4 GiB would be 4,096 times as many, and take \
             hundreds of times as long",
        ),
    );
    // In order of time: those without the block, those with it, the one that writes.
    let forks = report["forks"].as_array().map_or(&[][..], Vec::as_slice);
    let parent = story.process(PARENT).map(|process| u64::from(process.snapshot.pid));
    let tables: Vec<u64> = forks
        .iter()
        .filter(|fork| fork["parent"].as_u64() == parent)
        .filter_map(|fork| fork["page_table_kb"].as_u64())
        .collect();
    let more = || tables.last()?.checked_sub(*tables.first()?);
    let (page_kb, all_kb) = story.process_at(GRANTED, PARENT).map_or((4, 0), |process| {
        let page_kb = process.snapshot.page_size / 1024;
        (page_kb, process.buffer_tables() * page_kb)
    });
    let why = format!(
        "they describe what was touched of block and heap: a table each, and those above; for all 4 GiB it would be {all_kb} kB"
    );
    claims.check(
        Test::at_most("page tables that fork makes for the 4 GiB", 6 * page_kb, more())
            .unit("kB")
            .because(why),
    );
}
