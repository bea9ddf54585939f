//! What is set up otherwise here than where the sources were written, as far as it changes their figures.

use std::{fs, path::Path};

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use crate::kernel::{running_kernel, version_of};

const SOURCES_PAGE_SIZE: u64 = 4096;
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";
const MODULES: &str = "/sys/module";
/// Users of DAMON in the kernel itself; the first is on by default since 6.17.
const DAMON_MODULES: [&str; 3] = ["damon_stat", "damon_reclaim", "damon_lru_sort"];
const DAMON: &str = "/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds";
/// Bytes of a huge page that one entry maps, where the kernel does not say.
const USUAL_PMD_SIZE: u64 = 2 << 20;

/// One sentence that names the setting, if there is one that changes figures of all kinds.
pub(super) fn unlike_the_sources() -> Option<String> {
    large_folios(Path::new(HUGE_PAGES)).map(|file| {
        format!(
            "{file} is 'always': one first touch brings in several pages; 'never' or 'madvise' is the usual \
             setting"
        )
    })
}

/// One sentence if pages are larger here than the sources', for figures that cannot be worked out for other sizes:
/// times, and what happens to lie on one page.
pub(super) fn larger_pages() -> Option<String> {
    larger_than_the_sources(procfs::page_size())
}

fn larger_than_the_sources(page_size: u64) -> Option<String> {
    (page_size > SOURCES_PAGE_SIZE).then(|| {
        format!(
            "the figure is for pages of {} kB; this kernel's have {}",
            SOURCES_PAGE_SIZE / 1024,
            page_size / 1024
        )
    })
}

/// One sentence if the kernel looks for accessed memory here, and clears the marks of access as it does.
pub(super) fn access_bits_are_cleared() -> Option<String> {
    let monitor = monitor_of_accesses(Path::new(DAMON), Path::new(MODULES))?;
    Some(format!(
        "a monitor of memory accesses (DAMON, {monitor}) clears the marks every now and then, and remembers them elsewhere"
    ))
}

/// What says that there is one.
fn monitor_of_accesses(asked_for: &Path, modules: &Path) -> Option<String> {
    if fs::read_to_string(asked_for).is_ok_and(|monitors| monitors.trim() != "0") {
        return Some(asked_for.display().to_string());
    }
    let switches = DAMON_MODULES.map(|module| modules.join(module).join("parameters/enabled"));
    let on = switches.into_iter().find(|file| fs::read_to_string(file).is_ok_and(|is| is.trim() == "Y"))?;
    Some(on.display().to_string())
}

/// One sentence if this kernel is newer than the one on which fork was seen to clear the marks of access in the child.
pub(super) fn fork_may_keep_access_bits() -> Option<String> {
    let release = running_kernel().release;
    (version_of(&release)? > (6, 18)).then(|| {
        format!("on Linux {release} fork leaves the marks of access in the child's entries, as 7.2 does; up to 6.18 it cleared them")
    })
}

/// One sentence if this kernel tells the sizes of memory late.
pub(super) fn late_counters() -> Option<String> {
    let release = running_kernel().release;
    (version_of(&release)? < (6, 2)).then(|| {
        format!("Linux {release} gathers changes of VmRSS in each thread, up to 64 pages, before it shows them (until 6.2)")
    })
}

/// One sentence if a file lies on a file system that keeps its files in memory only. They are never written out, so that
/// their pages count as dirty: as Private_Dirty in a process that is the only one to map them.
pub(super) fn files_in_memory(file: &Path) -> Option<String> {
    /// `RAMFS_MAGIC` of `include/uapi/linux/magic.h`.
    const RAMFS: FsType = FsType(0x8584_58f6);
    let kind = statfs(file).ok()?.filesystem_type();
    [TMPFS_MAGIC, RAMFS].contains(&kind).then(|| {
        format!(
            "{} is on a file system in memory, whose pages count as dirty when they are only read",
            file.display()
        )
    })
}

/// A small huge-page size that every process gets without asking. The large one does not fit into the sources' heaps.
fn large_folios(directory: &Path) -> Option<String> {
    let pmd_size = fs::read_to_string(directory.join("hpage_pmd_size")).ok();
    let pmd_size = pmd_size.and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_PMD_SIZE);
    let pmd_sized = format!("hugepages-{}kB", pmd_size / 1024);
    let inherited = chosen(&directory.join("enabled")).as_deref() == Some("always");
    let mut files: Vec<_> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && !path.ends_with(&pmd_sized))
        .map(|path| path.join("enabled"))
        .collect();
    files.sort();
    let always = files.into_iter().find(|file| match chosen(file).as_deref() {
        Some("always") => true,
        Some("inherit") => inherited,
        _ => false,
    })?;
    Some(always.display().to_string())
}

/// The word in brackets.
fn chosen(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(global: &str, sizes: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("enabled"), global).unwrap();
        for (name, text) in sizes {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("enabled"), text).unwrap();
        }
        root
    }

    #[test]
    fn pages_are_named_if_they_are_larger_than_the_sources() {
        assert_eq!(larger_than_the_sources(4096), None);
        let named = larger_than_the_sources(65_536).unwrap();
        assert_eq!(named, "the figure is for pages of 4 kB; this kernel's have 64");
    }

    #[test]
    fn a_monitor_of_accesses_is_found_wherever_it_was_started() {
        let root = tempfile::tempdir().unwrap();
        let (asked_for, modules) = (root.path().join("nr_kdamonds"), root.path().join("module"));
        let found = || monitor_of_accesses(&asked_for, &modules);
        assert_eq!(found(), None);
        let switch = modules.join("damon_stat/parameters");
        fs::create_dir_all(&switch).unwrap();
        fs::write(switch.join("enabled"), "N\n").unwrap();
        fs::write(&asked_for, "0\n").unwrap();
        assert_eq!(found(), None);
        fs::write(switch.join("enabled"), "Y\n").unwrap();
        assert!(found().unwrap().ends_with("damon_stat/parameters/enabled"));
        fs::write(&asked_for, "1\n").unwrap();
        assert!(found().unwrap().ends_with("nr_kdamonds"));
    }

    #[test]
    fn only_small_sizes_without_asking_matter() {
        let usual = tree(
            "always [madvise] never",
            &[
                ("hugepages-64kB", "always inherit madvise [never]"),
                ("hugepages-2048kB", "always [inherit] madvise never"),
            ],
        );
        assert_eq!(large_folios(usual.path()), None);
        let forced = tree("always [madvise] never", &[("hugepages-64kB", "[always] inherit madvise never")]);
        assert!(large_folios(forced.path()).unwrap().ends_with("hugepages-64kB/enabled"));
        let inherited = tree(
            "[always] madvise never",
            &[
                ("hugepages-16kB", "always [inherit] madvise never"),
                ("hugepages-2048kB", "always [inherit] madvise never"),
            ],
        );
        assert!(large_folios(inherited.path()).unwrap().ends_with("hugepages-16kB/enabled"));
        // With pages of 16 kB, a page-table entry above maps 32 MiB.
        let larger_pages =
            tree("[always] madvise never", &[("hugepages-32768kB", "always [inherit] madvise never")]);
        fs::write(larger_pages.path().join("hpage_pmd_size"), "33554432\n").unwrap();
        assert_eq!(large_folios(larger_pages.path()), None);
        assert_eq!(large_folios(Path::new("/nonexistent")), None);
    }
}
