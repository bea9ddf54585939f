//! Each kind of fault against an oracle that is not ours.

use std::{ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Exited, Listener, Setting, compare, counts_copies, found, in_memory, live, number, page_size, process,
    processes, program, regions_sum_up, say, scratch, skip, solved_faults, top_region, trace, workload,
};
use serde_json::Value;

/// Traces a program; the kernel's counts are those of the report, and each fault is in a region.
pub(crate) fn exact(program: &Path, arguments: &[&str]) -> Result<(Value, Vec<Exited>)> {
    let (report, exited) = traced(program, arguments)?;
    compare(&report, &exited)?.exact().with_context(|| format!("{arguments:?}"))?;
    Ok((report, exited))
}

pub(crate) fn traced(program: &Path, arguments: &[&str]) -> Result<(Value, Vec<Exited>)> {
    let _accounting = Setting::delay_accounting()?;
    let listener = Listener::start()?;
    let mut command = vec![program.as_os_str().to_owned()];
    command.extend(arguments.iter().map(OsString::from));
    let report = trace(&[], &command)?.complete().with_context(|| format!("{arguments:?}"))?;
    regions_sum_up(&report).with_context(|| format!("{arguments:?}"))?;
    Ok((report, listener.finish()?))
}

/// Counts of the region that has most faults of `kind`: (`kind`, all others).
pub(crate) fn counts(process: &Value, kind: &str) -> Result<(u64, u64)> {
    let region = top_region(process, kind)?;
    let faults = region["faults"].as_object().context("faults is no object")?;
    let all: u64 = faults.values().filter_map(Value::as_u64).sum();
    let of_kind = number(region, &format!("/faults/{kind}"))?;
    Ok((of_kind, all - of_kind))
}

#[test]
fn copies_are_one_per_page() -> Result<()> {
    let _live = live!();
    let (report, _) = exact(&program()?, &["fork-write", "3000"])?;
    let child = process(&report, true)?;
    assert_eq!(counts(child, "copy")?, (3000, 0));
    let copied = number(child, "/copied_bytes")?;
    let pages = number(child, "/faults/copy")? + number(child, "/faults/file")?;
    assert_eq!(copied, pages * number(&report, "/kernel/page_size")?);
    // First touches by the parent, and nothing else there.
    assert_eq!(counts(process(&report, false)?, "anon")?, (3000, 0));
    Ok(())
}

#[test]
fn zero_pages_are_not_copies() -> Result<()> {
    let _live = live!();
    let (report, _) = exact(&program()?, &["zero", "1000"])?;
    let only = process(&report, false)?;
    assert_eq!(counts(only, "zero")?, (1000, 0));
    assert_eq!(number(only, "/faults/copy")?, 0);
    // Zeroed pages have no content that was copied.
    let copied = number(only, "/copied_bytes")?;
    assert_eq!(copied, number(only, "/faults/file")? * number(&report, "/kernel/page_size")?);
    Ok(())
}

/// A file of pages that are not zero, in a directory that lives as long as the test.
fn file(directory: &Path, pages: usize) -> Result<(String, Vec<u8>)> {
    let path = directory.join("pages");
    let content = vec![0x5a; pages * usize::try_from(page_size())?];
    fs::write(&path, &content)?;
    Ok((path.to_str().context("a path that is not UTF-8")?.to_owned(), content))
}

#[test]
fn private_file_pages_read_then_written() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let (path, content) = file(place.path(), 1000)?;
    let (report, exited) = exact(&workload(), &["file-read-write", &path, "1000"])?;
    let only = process(&report, false)?;
    assert_eq!(counts(only, "file")?, (1000, 0));
    assert_eq!(top_region(only, "file")?["name"], path.as_str());
    // What the kernel counts as write-protect copies and is neither copy nor zero is the part that was mapped when
    // it was written; the kernel does not count the rest, which it had unmapped (large folios).
    let kernel = exited.iter().find(|p| Some(u64::from(p.pid)) == only["pid"].as_u64()).context("no exit")?;
    if let Some(wpcopy) = kernel.wpcopy {
        let after_read = wpcopy - number(only, "/faults/copy")? - number(only, "/faults/zero")?;
        let all = number(only, "/faults/file")?;
        say(&format!(
            "file read, then written: {all} file pages, {after_read} after a read by the kernel's count"
        ));
        ensure!(after_read <= all, "more copies after a read than file pages");
    }
    assert_eq!(fs::read(&path)?, content, "the file has changed");
    Ok(())
}

#[test]
fn private_file_pages_written_first() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let (path, content) = file(place.path(), 1000)?;
    let (report, exited) = exact(&workload(), &["file-write-first", &path, "1000"])?;
    let only = process(&report, false)?;
    assert_eq!(counts(only, "file")?, (1000, 0));
    let kernel = exited.iter().find(|p| Some(u64::from(p.pid)) == only["pid"].as_u64()).context("no exit")?;
    // Not in the kernel's count of write-protect copies: what is, is the C library's start.
    ensure!(kernel.wpcopy.is_none_or(|copies| copies < 50), "write-protect copies: {:?}", kernel.wpcopy);
    ensure!(kernel.minflt + kernel.majflt >= 1000, "the kernel counts {} faults", kernel.minflt);
    assert_eq!(fs::read(&path)?, content, "the file has changed");
    Ok(())
}

#[test]
fn shared_file_pages_are_dirty_tracking() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    if in_memory(place.path())? {
        skip("shared_file_pages_are_dirty_tracking", "there is nothing to track where files are in memory");
        return Ok(());
    }
    let (path, content) = file(place.path(), 500)?;
    let (report, _) = exact(&workload(), &["shared-file", &path, "500"])?;
    // Written, saved, written again: only the second time the page was there and protected.
    assert_eq!(counts(process(&report, false)?, "shared")?, (500, 0));
    ensure!(fs::read(&path)? != content, "the file has not changed");
    Ok(())
}

#[test]
fn shared_memory_is_never_copied() -> Result<()> {
    let _live = live!();
    let (report, _) = exact(&workload(), &["map-shared", "1000"])?;
    for any in processes(&report)? {
        // The few are the C library's and the stack.
        ensure!(number(any, "/faults/copy")? < 20, "copies of shared memory: {}", any["faults"]);
        let regions = any["regions"].as_array().context("no regions")?;
        for region in regions.iter().filter(|region| region["perms"] == "rw-s") {
            for kind in ["copy", "zero", "file", "reuse", "anon"] {
                assert_eq!(region["faults"][kind], 0, "{kind} in shared memory: {region}");
            }
        }
    }
    Ok(())
}

#[test]
fn pages_alone_again_are_reused() -> Result<()> {
    let _live = live!();
    let (report, exited) = exact(&program()?, &["reuse", "1000"])?;
    let parent = process(&report, false)?;
    let region = top_region(parent, "reuse")?;
    assert_eq!((number(region, "/faults/reuse")?, number(region, "/faults/copy")?), (1000, 0), "{region}");
    let kernel =
        exited.iter().find(|p| Some(u64::from(p.pid)) == parent["pid"].as_u64()).context("no exit")?;
    ensure!(kernel.wpcopy.is_none_or(|copies| copies < 50), "the kernel counts {:?} copies", kernel.wpcopy);
    ensure!(
        kernel.minflt >= 2000,
        "the kernel counts {} faults: 1,000 first touches, 1,000 reuses",
        kernel.minflt
    );
    Ok(())
}

#[test]
fn forbidden_writes_are_one_per_signal() -> Result<()> {
    let _live = live!();
    // The handler's own count is checked by the workload: it fails if that is not 40.
    let (report, _) = exact(&workload(), &["denied-handled", "40"])?;
    let only = process(&report, false)?;
    assert_eq!(number(only, "/faults/denied")?, 40);
    let region = top_region(only, "denied")?;
    assert_eq!(number(region, "/faults/denied")?, 40);
    // The writes that are then allowed take no copies, except where the kernel does not reuse a page that waits in a CPU's
    // batch for the LRU lists (5.10): either way each page faults once.
    let (copies, reused) = (number(region, "/faults/copy")?, number(region, "/faults/reuse")?);
    ensure!(copies == 0 || copies + reused == 40, "{region}");

    let fatal = trace(&[], &[workload().as_os_str(), "denied".as_ref()])?;
    assert_eq!(fatal.output.status.code(), Some(128 + libc::SIGSEGV));
    assert_eq!(number(process(&fatal.report, false)?, "/faults/denied")?, 1);
    Ok(())
}

#[test]
fn forbidden_writes_of_a_system_call_are_no_fault_of_any_kind() -> Result<()> {
    let _live = live!();
    let (report, _) = exact(&program()?, &["fault-in-call", "30"])?;
    let only = process(&report, false)?;
    for kind in ["denied", "copy", "shared"] {
        assert_eq!(number(only, &format!("/faults/{kind}"))?, 0, "{kind}");
    }
    ensure!(number(only, "/faults/reuse")? < 10, "forbidden writes counted as reuse: {}", only["faults"]);
    Ok(())
}

pub(crate) fn vmstat(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/vmstat")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in /proc/vmstat"))?.trim().parse()?)
}

#[test]
fn merged_pages_are_counted_as_the_kernel_does() -> Result<()> {
    let _live = live!();
    const KSM: &str = "/sys/kernel/mm/ksm";
    if !Path::new(KSM).is_dir() {
        skip("ksm", "this kernel has no KSM");
        return Ok(());
    }
    let _pages = Setting::set(&format!("{KSM}/pages_to_scan"), "10000")?;
    let _sleep = Setting::set(&format!("{KSM}/sleep_millisecs"), "10")?;
    let _zero = Setting::set(&format!("{KSM}/use_zero_pages"), "0")?;
    let _run = Setting::set(&format!("{KSM}/run"), "1")?;
    let before = vmstat("cow_ksm");
    let (report, _) = exact(&workload(), &["ksm", "200"])?;
    let only = process(&report, false)?;
    // Counted since 5.19.
    if let Ok(before) = before {
        let kernel = vmstat("cow_ksm")? - before;
        say(&format!("ksm: {} by cowtrace, cow_ksm {kernel}", only["faults"]["ksm"]));
        assert_eq!(number(only, "/faults/ksm")?, kernel);
    }
    assert_eq!(counts(only, "ksm")?.0, 200);
    Ok(())
}

#[test]
fn the_kernels_writes_copy_as_well() -> Result<()> {
    let _live = live!();
    let (report, _) = exact(&program()?, &["kernel-write", "500"])?;
    assert_eq!(counts(process(&report, true)?, "copy")?, (500, 0));
    Ok(())
}

#[test]
fn threads_count_under_their_process() -> Result<()> {
    let _live = live!();
    if !counts_copies() {
        skip("threads", "this kernel does not tell whose a thread is when it ends");
        return Ok(());
    }
    let (report, exited) = exact(&program()?, &["threads-write", "8", "200"])?;
    let child = process(&report, true)?;
    assert_eq!(counts(child, "copy")?, (1600, 0));
    let kernel =
        exited.iter().find(|p| Some(u64::from(p.pid)) == child["pid"].as_u64()).context("no exit")?;
    assert_eq!(kernel.threads, 9);
    Ok(())
}

/// madvise and mlock take the write-protect path without a page fault; stress-ng's vm stressor does so now and then.
#[test]
fn pages_made_writable_on_request() -> Result<()> {
    let _live = live!();
    // SAFETY: nothing is asked of no memory; only whether the kernel knows the advice.
    if unsafe { libc::madvise(std::ptr::null_mut(), 0, libc::MADV_POPULATE_WRITE) } != 0 {
        skip("pages_made_writable_on_request", "this kernel has no MADV_POPULATE_WRITE (Linux 5.14)");
        return Ok(());
    }
    let (report, _) = exact(&program()?, &["populate", "200"])?;
    let all = processes(&report)?;
    assert_eq!(all.len(), 3);
    let zero = top_region(all[0], "zero")?;
    assert_eq!(number(zero, "/faults/zero")?, 200, "{zero}");
    for child in &all[1..] {
        assert_eq!(number(top_region(child, "copy")?, "/faults/copy")?, 200, "{child}");
    }
    Ok(())
}

/// Each solved write fault is a minor or major fault of the kernel's, and reads are the rest.
#[test]
fn solved_faults_are_among_the_kernels_minor_faults() -> Result<()> {
    let _live = live!();
    for (arguments, reads) in
        [(["zero", "1000"], 1000), (["cow-write", "1000"], 0), (["map-shared", "1000"], 0)]
    {
        let (report, exited) = exact(&workload(), &arguments)?;
        for any in processes(&report)? {
            let kernel =
                exited.iter().find(|p| Some(u64::from(p.pid)) == any["pid"].as_u64()).context("no exit")?;
            let solved = solved_faults(any);
            let faults = kernel.minflt + kernel.majflt;
            say(&format!("{arguments:?}: {solved} write faults of the kernel's {faults} faults"));
            ensure!(
                solved <= faults,
                "{solved} write faults, but only {faults} of any sort: {}",
                any["faults"]
            );
            ensure!(solved + reads <= faults, "{reads} pages were read first: {solved} of {faults}");
        }
    }
    Ok(())
}

/// A swap file for as long as this lives.
struct Swap(std::path::PathBuf);

impl Swap {
    fn on(directory: &Path) -> Result<Swap> {
        let path = directory.join("swap");
        fs::write(&path, vec![0; 32 << 20])?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        for tool in ["mkswap", "swapon"] {
            let output = Command::new(found(tool).context("no swap tools")?).arg(&path).output()?;
            ensure!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Swap(path))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(&self.0).status();
    }
}

#[test]
fn pages_from_swap_are_copied_if_shared() -> Result<()> {
    let _live = live!();
    let place = scratch()?;
    let _swap = match Swap::on(place.path()) {
        Ok(swap) => swap,
        Err(error) => {
            skip("swap", &format!("no swap file can be used here: {error:#}"));
            return Ok(());
        }
    };
    let (report, _) = exact(&program()?, &["swap-write", "400"])?;
    let child = process(&report, true)?;
    let region = top_region(child, "copy")?;
    say(&format!("swap: the child's pages: {}", region["faults"]));
    ensure!(number(child, "/faults/copy")? <= 420, "more copies than pages: {}", child["faults"]);
    Ok(())
}
