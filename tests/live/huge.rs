//! Faults on huge pages: transparent ones, the huge zero page, and those of the hugetlb pool.

use std::fs;

use anyhow::{Result, ensure};
use cowtrace_tests::{Setting, live, number, page_size, process, processes, program, say, skip, workload};

use crate::kinds::{counts, exact, vmstat};

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";

#[test]
fn a_huge_first_touch_is_one_fault() -> Result<()> {
    let _live = live!();
    let mode = fs::read_to_string(format!("{HUGE_PAGES}/enabled")).unwrap_or_default();
    if mode.is_empty() || mode.contains("[never]") {
        skip("thp", "transparent huge pages are off here");
        return Ok(());
    }
    let before = vmstat("thp_fault_alloc")?;
    let (report, _) = exact(&workload(), &["thp-anon"])?;
    let huge = vmstat("thp_fault_alloc")? - before;
    let only = process(&report, false)?;
    let anon = number(only, "/faults/anon")?;
    let bytes = number(only, "/anon_bytes")?;
    say(&format!("thp: {anon} first touches brought in {bytes} bytes; thp_fault_alloc {huge}"));
    // Of the machine: others may take huge pages meanwhile, but the one is among them.
    ensure!(huge >= 1, "the kernel took no huge page");
    let huge_page: u64 = fs::read_to_string(format!("{HUGE_PAGES}/hpage_pmd_size"))?.trim().parse()?;
    assert_eq!(bytes, (anon - 1) * page_size() + huge_page);
    Ok(())
}

/// A write to the huge zero page: a new huge page since Linux 6.13; before that the block is split, and one zero page is
/// replaced.
#[test]
fn the_huge_zero_page_is_no_copy() -> Result<()> {
    let _live = live!();
    let setting = |name: &str| fs::read_to_string(format!("{HUGE_PAGES}/{name}")).unwrap_or_default();
    if setting("enabled").is_empty()
        || setting("enabled").contains("[never]")
        || setting("use_zero_page") != "1\n"
    {
        skip("huge-zero", "the huge zero page is not used here");
        return Ok(());
    }
    let huge_page: u64 = setting("hpage_pmd_size").trim().parse()?;
    let (report, _) = exact(&program()?, &["huge-zero", "20"])?;
    let only = process(&report, false)?;
    let anon = number(only, "/faults/anon")?;
    let bytes = number(only, "/anon_bytes")?;
    // On kernels that put it right beside the C library's memory (before 6.7), first touches of that are in the same region.
    match counts(only, "zero")? {
        (20, _) => assert_eq!(bytes, anon * page_size()),
        _ => {
            assert_eq!(counts(only, "anon")?, (20, 0));
            assert_eq!(bytes, (anon - 20) * page_size() + 20 * huge_page);
        }
    }
    Ok(())
}

#[test]
fn huge_pages_of_the_pool() -> Result<()> {
    let _live = live!();
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let Some(size) = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:")) else {
        skip("hugetlb", "this kernel has no hugetlb pages");
        return Ok(());
    };
    let size_kb: u64 = size.trim().trim_end_matches("kB").trim_end().parse()?;
    let pool = format!("/sys/kernel/mm/hugepages/hugepages-{size_kb}kB/nr_hugepages");
    let _pool = Setting::set(&pool, "16")?;
    if fs::read_to_string(&pool)?.trim() != "16" {
        skip("hugetlb", "no 16 free huge pages here");
        return Ok(());
    }
    let (report, _) = exact(&program()?, &["hugetlb", "5"])?;
    let (parent, child) = (process(&report, false)?, process(&report, true)?);
    assert_eq!((number(parent, "/faults/hugetlb")?, number(child, "/faults/hugetlb")?), (0, 5));
    let small = number(child, "/faults/copy")? + number(child, "/faults/file")?;
    assert_eq!(number(child, "/copied_bytes")?, 5 * size_kb * 1024 + small * page_size());
    let (report, _) = exact(&program()?, &["hugetlb-shared", "5"])?;
    for any in processes(&report)? {
        assert_eq!(number(any, "/faults/hugetlb")?, 0, "a shared huge page is not copied");
    }
    Ok(())
}
