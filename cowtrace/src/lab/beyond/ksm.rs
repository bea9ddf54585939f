//! KSM: pages of the same content become one, without any fork, and a write copies them apart again.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cowtrace_abi::Kind;

use super::{SOURCE, kb};
use crate::{
    kernel::KernelSetting,
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        story::{Focus, PARENT, Story},
    },
    proc::vmstat,
};

const KSM: &str = "/sys/kernel/mm/ksm";
/// As many pages as a step has, if the kernel puts that many on one frame.
const MOST_PAGES: u64 = 200;

const TOUCHED: &str = "touched";
const MERGED: &str = "merged";
const WRITTEN: &str = "written";

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "ksm",
    source: SOURCE,
    title: "Merged by the kernel, copied on write: shared pages without a fork",
    about: "A process fills 200 pages with the same content and lets the kernel merge them (KSM, which is switched on \
            for this experiment, and set back after it). Then it writes to each.",
    expect: "All 200 pages come to lie on one frame: Private_Dirty falls to nothing without any fault of the process. \
             Each write then copies a page, the last one as well.",
    lesson: "Copy on write needs no fork. The saving is real (one frame for 200 pages), and so is its price: each page \
             that changes again is a fault and a copy. An event for the merging there is none: the ledger takes it from \
             the frames.",
    focus: Focus::Buffer("the buffer"),
    size: None,
    run: ksm,
};

/// What was read besides the checkpoints.
struct Seen {
    pages: u64,
    /// vmstat's count of copies of KSM pages, before the writes and after them.
    vmstat: [Option<u64>; 2],
    /// Pages that others have merged.
    others: u64,
    /// Minor faults of the writes, by the process's own count.
    own_count: Option<u64>,
}

fn ksm(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let settings = match Settings::switch_on() {
        Ok(settings) => settings,
        Err(why) => {
            lab.claims.unmeasurable("merged pages copied when they are written", MOST_PAGES, "pages", why);
            return Ok(Outcome::default());
        }
    };
    let pages = number("max_page_sharing").map_or(MOST_PAGES, |most| most.min(MOST_PAGES));
    let mut workload = lab.start("ksm-pages", &[pages.to_string()], &["process"])?;
    workload.go(PARENT, &[PARENT], TOUCHED)?;
    lab.progress("waiting for the kernel to merge pages");
    workload.go(PARENT, &[PARENT], MERGED)?;
    let others = merged_in_all().saturating_sub(pages);
    let before = vmstat("cow_ksm");
    // What is written has the same content again, and would be merged again before it is looked at.
    settings.scan(false)?;
    workload.go(PARENT, &[PARENT], WRITTEN)?;
    let vmstat = [before, vmstat("cow_ksm")];
    let own_count = workload.take_samples().first().map(|sample| sample[0]);
    let (story, report) = workload.finish()?;
    settings.scan(true)?;
    settings.leave_clean();
    let seen = Seen { pages, vmstat, others, own_count };
    merging(lab, &story, &seen);
    copying(lab, &story, &seen);
    let forks = report["forks"].as_array().map(|forks| forks.len() as u64);
    lab.claims.equal("forks in the tracer's report", 0, forks, "forks", "copy on write needs none");
    Ok(Outcome { story, report })
}

/// KSM switched on, as long as this lives.
struct Settings {
    run: KernelSetting,
    /// How eager it is; a kernel that adapts this by itself refuses to be told.
    _pace: [Option<KernelSetting>; 2],
}

impl Settings {
    fn switch_on() -> Result<Settings, String> {
        if !Path::new(KSM).exists() {
            return Err(format!("{KSM} is not there: the kernel was built without CONFIG_KSM"));
        }
        let change = |name, value| KernelSetting::change(Path::new(KSM).join(name), value);
        let run = change("run", "1").map_err(|error| format!("KSM cannot be switched on: {error:#}"))?;
        let pace = [change("pages_to_scan", "1000").ok(), change("sleep_millisecs", "10").ok()];
        Ok(Settings { run, _pace: pace })
    }

    /// Has the kernel look for equal pages, or not, while this lives. What is merged stays so.
    fn scan(&self, on: bool) -> anyhow::Result<()> {
        let file = Path::new(KSM).join("run");
        fs::write(&file, if on { "1" } else { "0" })
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// The kernel forgets pages of processes that are gone only when it scans: this waits for that, but not for long.
    fn leave_clean(self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let deadline = Instant::now() + PATIENCE;
        // Switched on before, it goes on scanning.
        while self.run.before() != "1" && merged_in_all() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn number(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new(KSM).join(name)).ok()?.trim().parse().ok()
}

/// Pages of the whole machine that lie on a frame with others.
fn merged_in_all() -> u64 {
    number("pages_shared").unwrap_or(0) + number("pages_sharing").unwrap_or(0)
}

fn merging(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let frames = |name| story.buffer_frames_in_use(name);
    let why = "each was written by the process, and so is its own";
    claims.equal(
        "frames behind the pages before they are merged",
        seen.pages,
        frames(TOUCHED),
        "frames",
        why,
    );
    let why = "all have the same content, and one page holds it";
    claims.equal("frames behind the pages after they are merged", 1, frames(MERGED), "frames", why);
    let flagged = || {
        let pages = story.process_at(MERGED, PARENT)?.buffer_pages().iter();
        Some(pages.filter(|page| page.merged).count() as u64)
    };
    let why = "kpageflags marks the frame as one of KSM's";
    claims.equal("pages on a frame that the kernel calls merged", seen.pages, flagged(), "pages", why);
    let why = "a kernel thread merges them; the process notices nothing";
    let faults = story.buffer_faults_before(MERGED, PARENT, None);
    claims.equal("faults of the process in its buffer while they are merged", 0, faults, "faults", why);
    let smaps = story.buffer_at(MERGED, PARENT);
    let page = kb(1);
    let why = "the frame is mapped many times, if only by one process: smaps calls that shared";
    claims.equal("Private_Dirty after merging", 0, smaps.map(|vma| vma.private_dirty_kb), "kB", why);
    let why = "Rss counts every mapping in full";
    claims.equal("Rss after merging", kb(seen.pages), smaps.map(|vma| vma.rss_kb), "kB", why);
    // smaps adds up parts of pages, each rounded down.
    let why = "Pss divides the frame among its mappings: together they are one page";
    claims.within("Pss after merging", page - 1..=page, smaps.map(|vma| vma.pss_kb), "kB", why);
}

fn copying(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let faults = |kind| story.buffer_faults_before(WRITTEN, PARENT, Some(kind));
    let why = "a merged page is never written in place; the last one could be, and is copied as well";
    claims.equal("merged pages copied when they are written", seen.pages, faults(Kind::Ksm), "pages", why);
    let why = "their original is KSM's, not a relative's";
    claims.equal(
        "copies of the kind that a fork makes, while they are written",
        0,
        faults(Kind::Copy),
        "pages",
        why,
    );
    let why = "by the process's own count (getrusage)";
    claims.equal("minor faults while they are written", seen.pages, seen.own_count, "faults", why);
    let counted = seen.vmstat[0].zip(seen.vmstat[1]).and_then(|(before, after)| after.checked_sub(before));
    let setting = if counted.is_none() {
        Some("this kernel does not count these copies: vmstat has cow_ksm since Linux 5.19".to_owned())
    } else {
        let others = seen.others;
        (others > 0)
            .then(|| format!("others on this machine have {others} merged pages, and write to some of them"))
    };
    let why =
        "the kernel counts these copies, too: for the whole machine, on which nobody else has merged pages";
    let test = Test::equal("the kernel's own count of these copies (vmstat cow_ksm)", seen.pages, counted);
    claims.check(test.unit("pages").because(why).unless(setting));
    let private = story.buffer_at(WRITTEN, PARENT).map(|vma| vma.private_dirty_kb);
    let why = "every page is the process's own again: the saving is gone";
    let all = kb(seen.pages);
    claims.equal("Private_Dirty after all were written", all, private, "kB", why);
}
