//! Huge pages of the pool (hugetlb): a fork shares them, and one written byte copies a whole one.

use std::{fs, path::Path};

use cowtrace_abi::Kind;
use serde_json::Value;

use super::SOURCE;
use crate::{
    kernel::{KernelSetting, hugetlb_size, read_setting},
    lab::{
        experiment::{Experiment, Lab, Outcome},
        story::{CHILD, Focus, PARENT, Story},
    },
    proc::Vma,
};

const KNOB: &str = "/proc/sys/vm/nr_hugepages";
const MEMINFO: &str = "/proc/meminfo";
/// Of pages larger than this, one is enough.
const LARGE: u64 = 32 << 20;

const FORKED: &str = "forked";
const CHILD_WROTE: &str = "child wrote";
const PARENT_WROTE: &str = "parent wrote";

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "hugetlb",
    source: SOURCE,
    title: "One byte written, 2 MiB copied: huge pages of the pool",
    about: "A process maps huge pages of the kernel's pool and forks. The child writes one byte to each, then the parent \
            does. The pages are reserved for the experiment, and given back after it.",
    expect: "One fault copies a whole huge page. smaps shows these pages in figures of their own (Private_Hugetlb, \
             Shared_Hugetlb): Rss and Private_Dirty do not move. When the parent writes, its pages are its own already.",
    lesson: "Unlike a transparent huge page, which is split first, a huge page of the pool is copied as a whole. Few \
             faults can then be much memory, which comes out of the pool, and none of the usual figures shows it: a fork \
             needs as many free huge pages as will be written, or the child is killed.",
    focus: Focus::Buffer("the huge pages"),
    size: None,
    run: hugetlb,
};

/// Huge pages, and what was counted while the processes lived.
struct Seen {
    pages: u64,
    bytes: u64,
    /// Free pages of the pool after the fork, after the child's writes, after the parent's.
    free: [Option<u64>; 3],
    /// Minor faults of the child's writes and of the parent's, by their own counts.
    own_counts: Vec<u64>,
}

fn hugetlb(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let bytes = hugetlb_size();
    let pages = if bytes > LARGE { 1 } else { 4 };
    // As many again for the copies.
    let _reserved = match reserve(2 * pages) {
        Ok(reserved) => reserved,
        Err(why) => {
            let claim = "huge pages copied when the child writes one byte to each";
            lab.claims.unmeasurable(claim, pages, "pages", why);
            return Ok(Outcome::default());
        }
    };
    let args = [pages.to_string(), bytes.to_string()];
    let mut workload = lab.start("hugetlb-pages", &args, &["parent", "child"])?;
    let free = || pool("HugePages_Free");
    workload.go(PARENT, &[PARENT], "touched")?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    let forked = free();
    workload.go(CHILD, &[CHILD], CHILD_WROTE)?;
    let child_wrote = free();
    workload.go(PARENT, &[PARENT], PARENT_WROTE)?;
    let free = [forked, child_wrote, free()];
    let own_counts = workload.take_samples().iter().map(|sample| sample[0]).collect();
    let child = workload.pid(CHILD).unwrap_or_default();
    let (story, report) = workload.finish()?;
    let seen = Seen { pages, bytes, free, own_counts };
    sharing(lab, &story, &seen);
    copying(lab, &story, &seen);
    in_bytes(lab, &seen, &report, child);
    reusing(lab, &story, &seen);
    Ok(Outcome { story, report })
}

/// Makes the pool larger by this many pages, until the answer is dropped; or says why that cannot be done.
fn reserve(pages: u64) -> Result<KernelSetting, String> {
    let advice = "reserve some, before memory is fragmented: hugepages=16 on the kernel's command line, or \
                  `sysctl vm.nr_hugepages=16` soon after boot";
    let before = read_setting(Path::new(KNOB)).ok().and_then(|text| text.parse::<u64>().ok());
    let before = before.ok_or("the kernel has no hugetlb pages (CONFIG_HUGETLBFS)")?;
    let reserved = KernelSetting::change(KNOB, &(before + pages).to_string())
        .map_err(|error| format!("huge pages cannot be reserved ({error:#}); {advice}"))?;
    let free = pool("HugePages_Free").unwrap_or(0).saturating_sub(pool("HugePages_Rsvd").unwrap_or(0));
    if free < pages {
        return Err(format!("the kernel found memory for only {free} free huge pages, of {pages}; {advice}"));
    }
    Ok(reserved)
}

/// A figure of the pool.
fn pool(field: &str) -> Option<u64> {
    figure(&fs::read_to_string(MEMINFO).ok()?, field)
}

fn figure(meminfo: &str, field: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

fn sharing(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let all = seen.pages * seen.bytes / 1024;
    let own = story.buffer_at("touched", PARENT);
    let why = "nobody else maps them yet";
    claims.equal("Private_Hugetlb before the fork", all, own.map(|vma| vma.private_hugetlb_kb), "kB", why);
    let why = "smaps leaves huge pages of the pool out of it";
    claims.equal("Rss before the fork", 0, own.map(|vma| vma.rss_kb), "kB", why);
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let smaps = story.buffer_at(FORKED, role);
        let why = "fork shares them like other pages";
        let claim = format!("Shared_Hugetlb of the {name} after the fork");
        claims.equal(claim, all, smaps.map(|vma| vma.shared_hugetlb_kb), "kB", why);
    }
}

fn copying(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let faults = |kind| story.buffer_faults_before(CHILD_WROTE, CHILD, Some(kind));
    let why = "one fault for each page, which the parent still maps";
    let copied = faults(Kind::Hugetlb);
    claims.equal(
        "huge pages copied when the child writes one byte to each",
        seen.pages,
        copied,
        "pages",
        why,
    );
    let why = "a huge page of the pool is never split";
    claims.equal("small pages copied there while the child writes", 0, faults(Kind::Copy), "pages", why);
    let why = "by the child's own count (getrusage)";
    let counted = seen.own_counts.first().copied();
    claims.equal("minor faults of the child while it writes", seen.pages, counted, "faults", why);
    let taken = seen.free[0].zip(seen.free[1]).and_then(|(before, after)| before.checked_sub(after));
    let why = "the copies come out of the pool";
    claims.equal(
        "free huge pages that the child's writes take from the pool",
        seen.pages,
        taken,
        "pages",
        why,
    );
    let all = seen.pages * seen.bytes / 1024;
    for (role, name, why) in
        [(CHILD, "child", "its copies"), (PARENT, "parent", "the child has left it alone with the originals")]
    {
        let smaps = story.buffer_at(CHILD_WROTE, role);
        let mut of = |field: &str, expected, get: fn(&Vma) -> u64, why| {
            let claim = format!("{field} of the {name}'s huge pages after the child's writes");
            claims.equal(claim, expected, smaps.map(get), "kB", why);
        };
        of("Private_Hugetlb", all, |vma| vma.private_hugetlb_kb, why);
        of("Private_Dirty", 0, |vma| vma.private_dirty_kb, "smaps leaves huge pages of the pool out of it");
    }
}

fn in_bytes(lab: &mut Lab<'_>, seen: &Seen, report: &Value, child: u32) {
    let huge = || {
        let process = report["processes"].as_array()?.iter().find(|process| process["pid"] == child)?;
        let small = ["copy", "file", "ksm"]
            .iter()
            .map(|kind| process["faults"][kind].as_u64())
            .sum::<Option<u64>>()?;
        process["copied_bytes"].as_u64()?.checked_sub(small * procfs::page_size())
    };
    let why = "each counts in its full size, not as a small page";
    let expected = seen.pages * seen.bytes;
    lab.claims.equal(
        "bytes of huge pages that the tracer's report has for the child",
        expected,
        huge(),
        "bytes",
        why,
    );
}

fn reusing(lab: &mut Lab<'_>, story: &Story, seen: &Seen) {
    let claims = &mut lab.claims;
    let faults = |kind| story.buffer_faults_before(PARENT_WROTE, PARENT, Some(kind));
    let why = "nobody else maps its pages any more";
    claims.equal(
        "huge pages copied when the parent writes after the child",
        0,
        faults(Kind::Hugetlb),
        "pages",
        why,
    );
    let why = "each page is still write-protected: a fault, but no copy (taskstats counts it as one)";
    claims.equal(
        "reuses when the parent writes after the child",
        seen.pages,
        faults(Kind::HugetlbReuse),
        "pages",
        why,
    );
    let why = "by the parent's own count (getrusage)";
    let counted = seen.own_counts.get(1).copied();
    claims.equal("minor faults of the parent while it writes", seen.pages, counted, "faults", why);
    let taken = seen.free[1].zip(seen.free[2]).and_then(|(before, after)| before.checked_sub(after));
    claims.equal(
        "free huge pages that the parent's writes take from the pool",
        0,
        taken,
        "pages",
        "nothing was copied",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_pool_are_found_by_their_whole_name() {
        let text = "HugePages_Total:       8\nHugePages_Free:        3\nHugePages_Rsvd:        1\nHugetlb:   16384 kB\n";
        let of = |field| figure(text, field);
        assert_eq!([of("HugePages_Free"), of("HugePages_Rsvd"), of("HugePages")], [Some(3), Some(1), None]);
    }
}
