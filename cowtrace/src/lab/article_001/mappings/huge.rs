//! `thp-byte`: one byte written to a huge page that is shared since a fork.

use std::{fs, path::Path};

use cowtrace_abi::Kind;

use super::super::SOURCE;
use crate::{
    lab::{
        claims::{Claims, Test},
        experiment::{Experiment, Lab, Outcome},
        story::{CHILD, Focus, PARENT, Story},
    },
    model::FamilyEvent,
    proc::{Vma, vmstat},
};

const SETTINGS: &str = "/sys/kernel/mm/transparent_hugepage";
/// vmstat's count of huge mappings that were split.
const SPLITS: &str = "thp_split_pmd";
/// Of x86-64, and of most others with pages of 4 kB.
const USUAL_BYTES: u64 = 2 << 20;

pub(super) const THP_BYTE: Experiment = Experiment {
    id: "thp-byte",
    source: SOURCE,
    title: "One byte in a shared huge page: 4 kB copied, and the huge page given up",
    about: "A process fills one huge page of 2 MiB and forks. The child writes one byte to it, the parent \
            one byte elsewhere in it, and then the child one byte to each of its 4 kB pages.",
    expect: "One copy of 4 kB for the first byte of each. But the huge page is mapped in pieces from then \
             on, in the child and then in the parent.",
    lesson: "Since Linux 5.8 a write to a shared huge page copies no more than a write to a small one. What \
             is lost is the large mapping: it is split into 512 small ones, each of which then takes its own \
             fault when written and its own entry of the TLB. Advice that says that huge pages make each \
             copy 512 times dearer is about older kernels, and about hugetlb pages, which are still copied \
             whole.",
    focus: Focus::Buffer("the huge page"),
    size: None,
    run: thp_byte,
};

fn thp_byte(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let bytes = huge_page_bytes();
    let mut workload = lab.start("thp-byte", &[bytes.to_string()], &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], TOUCHED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    let splits_before = vmstat(SPLITS);
    workload.go(CHILD, &[CHILD], BYTE)?;
    let splits = vmstat(SPLITS).zip(splits_before).map(|(after, before)| after - before);
    workload.go(PARENT, &[PARENT], PARENT_BYTE)?;
    workload.go(CHILD, &[CHILD], ALL)?;
    let (story, report) = workload.finish()?;
    let whole = huge_kb(&story, TOUCHED, PARENT).is_some_and(|kb| kb * 1024 == bytes);
    if whole {
        check(&mut lab.claims, &story, bytes, splits);
    } else {
        let claim = "bytes that one written byte copies in a shared huge page";
        lab.claims.unmeasurable(claim, bytes, "bytes", no_huge_page());
    }
    Ok(Outcome { story, report })
}

const TOUCHED: &str = "touched";
const FORKED: &str = "forked";
const BYTE: &str = "child wrote a byte";
const PARENT_BYTE: &str = "parent wrote a byte";
const ALL: &str = "child wrote all";

fn check(claims: &mut Claims, story: &Story, bytes: u64, splits: Option<u64>) {
    let page = procfs::page_size();
    let (pages, page_kb, kb) = (bytes / page, page / 1024, bytes / 1024);
    let mapped = |checkpoint, role| huge_kb(story, checkpoint, role);
    let of = |checkpoint, role, of: fn(&Vma) -> u64| story.buffer_at(checkpoint, role).map(of);
    let why = "one entry of the table above maps all of it";
    claims.equal("AnonHugePages before the fork", kb, mapped(TOUCHED, PARENT), "kB", why);
    let why = "the first byte brings in the whole huge page";
    claims.equal("first touches that bring it in", 1, first_touches(story), "faults", why);
    let why = "fork shares a huge page as such: one entry for the child, write-protected in both";
    claims.equal("AnonHugePages of the child after the fork", kb, mapped(FORKED, CHILD), "kB", why);
    let shared = of(FORKED, PARENT, |vma| vma.shared_dirty_kb);
    claims.equal("Shared_Dirty of the parent after the fork", kb, shared, "kB", "mapped by two, and written");

    let by_byte = copies_at(story, BYTE, CHILD);
    claims.check(
        Test::equal("bytes that one written byte copies", bytes, by_byte.map(|copies| copies * page))
            .unit("bytes")
            .known_wrong(
                "since Linux 5.8 the kernel does not copy a huge page on write: it splits the mapping, and \
                 copies the small page that the byte is in",
            ),
    );
    let why = "the mapping is split, and one of its small pages is copied";
    claims.equal("copies of a small page instead", 1, by_byte, "pages", why);
    claims.check(
        Test::at_least("huge mappings that the kernel has split meanwhile (thp_split_pmd)", 1, splits)
            .unit("mappings")
            .because("the child's; the figure is the whole machine's"),
    );
    let why = "what is left of the huge page is mapped in pieces";
    claims.equal("AnonHugePages of the child after its byte", 0, mapped(BYTE, CHILD), "kB", why);
    let why = "the parent's own mapping is left alone by that";
    claims.equal("AnonHugePages of the parent after it", kb, mapped(BYTE, PARENT), "kB", why);
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let why = "one small page is not shared any more, on either side";
        let private = of(BYTE, role, |vma| vma.private_dirty_kb);
        claims.equal(format!("Private_Dirty of the {name} after it"), page_kb, private, "kB", why);
    }
    let why = "all others have one frame for both";
    claims.equal(
        "Shared_Dirty of the child after it",
        kb - page_kb,
        of(BYTE, CHILD, |vma| vma.shared_dirty_kb),
        "kB",
        why,
    );

    let why = "a byte in another of the small pages, which the child still has: the same again";
    claims.equal("copies by the parent's byte", 1, copies_at(story, PARENT_BYTE, PARENT), "pages", why);
    let why = "its mapping is split as well";
    claims.equal("AnonHugePages of the parent after its own byte", 0, mapped(PARENT_BYTE, PARENT), "kB", why);
    let why = "each small page but the one it has; that the parent left one to it alone does not count while \
               the others of the huge page are shared";
    claims.equal(
        "copies by the child's bytes in all the others",
        pages - 1,
        copies_at(story, ALL, CHILD),
        "pages",
        why,
    );
}

/// `AnonHugePages` of the buffer.
fn huge_kb(story: &Story, checkpoint: &str, role: usize) -> Option<u64> {
    story.buffer_at(checkpoint, role).map(|vma| vma.anon_huge_kb)
}

/// Copies in the buffer between this checkpoint and the one before.
fn copies_at(story: &Story, checkpoint: &str, role: usize) -> Option<u64> {
    story.buffer_faults_at(checkpoint, role, Kind::Copy)
}

/// Faults that brought in the first page of the parent's buffer.
fn first_touches(story: &Story) -> Option<u64> {
    let process = story.process_at(TOUCHED, PARENT)?;
    let first = process.buffer.start / process.snapshot.page_size;
    let faults = |event: &FamilyEvent| match event {
        FamilyEvent::Pages { pid, kind: Kind::Anon, pages, faults }
            if *pid == process.snapshot.pid && pages.contains(&first) =>
        {
            *faults
        }
        _ => 0,
    };
    Some(story.checkpoint(TOUCHED)?.events.iter().map(faults).sum())
}

/// Bytes of a huge page that one entry maps.
fn huge_page_bytes() -> u64 {
    let text = fs::read_to_string(Path::new(SETTINGS).join("hpage_pmd_size")).unwrap_or_default();
    text.trim().parse().unwrap_or(USUAL_BYTES)
}

/// Why the step got none, and what to do.
fn no_huge_page() -> String {
    let file = Path::new(SETTINGS).join("enabled");
    let name = file.display();
    match fs::read_to_string(&file) {
        Err(error) => format!("this kernel has no transparent huge pages ({name}: {error})"),
        Ok(text) if text.contains("[never]") => {
            format!("huge pages are switched off; `echo madvise > {name}` allows them to programs that ask")
        }
        Ok(_) => "the kernel gave none, most likely because memory is fragmented; `echo 1 > \
                  /proc/sys/vm/compact_memory` makes some whole again"
            .into(),
    }
}
