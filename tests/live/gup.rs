//! Copies without a page fault: made for another process's write (get_user_pages), and by fork itself for pinned pages.

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Exited, compare, field, live, number, process, processes, program, skip, top_region, trace,
};
use serde_json::Value;

use crate::kinds::traced;

/// Whether the report's backend says that it cannot see this.
fn is_blind_to(report: &Value, what: &str) -> Result<bool> {
    let blind = field(report, "/backend/blind_to")?.as_array().context("blind_to is no list")?;
    Ok(blind.iter().any(|name| name == what))
}

fn exit_of<'a>(exited: &'a [Exited], process: &Value) -> Result<&'a Exited> {
    let pid = number(process, "/pid")?;
    exited.iter().find(|exited| u64::from(exited.pid) == pid).context("no exit")
}

/// process_vm_writev into pages that a fork has shared: the writer copies them, and counts for it.
#[test]
fn foreign_writes_are_the_writers_copies() -> Result<()> {
    let _live = live!();
    let (report, exited) = traced(&program()?, &["foreign-write", "250"])?;
    let (parent, child) = (process(&report, false)?, process(&report, true)?);
    let kernel = exit_of(&exited, parent)?.wpcopy;
    if is_blind_to(&report, "gup")? {
        let seen = number(parent, "/wpcopy")?;
        ensure!(kernel.is_none_or(|kernel| seen + 250 == kernel), "{seen} seen of {kernel:?}: {parent}");
    } else {
        compare(&report, &exited)?.exact()?;
        let copies = number(parent, "/faults/copy")?;
        // And some of its own stack and data.
        ensure!((250..270).contains(&copies), "{copies} copies by the writer of 250 pages");
    }
    // The owner of the pages has not written them.
    let copies = number(child, "/faults/copy")?;
    ensure!(copies < 20, "{copies} copies by the owner of the pages");
    Ok(())
}

/// A fault in kernel mode that copied nothing does not lend its address to what comes next without a fault.
#[test]
fn a_kernel_mode_fault_is_over_when_it_is_over() -> Result<()> {
    let _live = live!();
    let (report, exited) = traced(&program()?, &["call-then-foreign-write", "150"])?;
    let parent = processes(&report)?[0];
    if is_blind_to(&report, "gup")? {
        // The 150 foreign writes are not seen, so they must not be counted as something else either.
        let (seen, kernel) = (number(parent, "/wpcopy")?, exit_of(&exited, parent)?.wpcopy);
        ensure!(
            kernel.is_none_or(|kernel| seen + 150 == kernel),
            "{seen} of {kernel:?}: {}",
            parent["faults"]
        );
    } else {
        compare(&report, &exited)?.exact()?;
    }
    let region = top_region(parent, "reuse")?;
    assert_eq!(number(region, "/faults/reuse")?, 150, "{region}");

    let (report, _) = traced(&program()?, &["call-then-populate", "150"])?;
    for region in processes(&report)?[0]["regions"].as_array().context("no regions")? {
        ensure!(
            region["perms"] != "rw-s" || region["faults"]["anon"] == 0,
            "anon in shared memory: {region}"
        );
    }
    Ok(())
}

/// Pages that a device may write to are copied by the fork, for the child.
#[test]
fn pinned_pages_are_copied_by_the_fork() -> Result<()> {
    let _live = live!();
    const PAGES: u64 = 32;
    let subject = program()?;
    let pages = PAGES.to_string();
    let traced = trace(&[], &[subject.as_os_str(), "pinned".as_ref(), pages.as_ref()])?;
    // The child's page frames prove that it was so.
    let own: i64 = String::from_utf8_lossy(&traced.output.stdout).trim().parse()?;
    if own < 0 {
        skip("pinned_pages_are_copied_by_the_fork", "this kernel pins no pages (io_uring is refused)");
        return Ok(());
    }
    assert_eq!(u64::try_from(own), Ok(PAGES), "page frames of the child's own");
    let report = traced.complete()?;
    let (parent, child) = (process(&report, false)?, process(&report, true)?);
    if is_blind_to(&report, "pinned")? {
        assert_eq!((&parent["faults"]["pinned"], &child["faults"]["pinned"]), (&Value::Null, &Value::Null));
    } else {
        assert_eq!((number(parent, "/faults/pinned")?, number(child, "/faults/pinned")?), (PAGES, 0));
        assert_eq!(number(top_region(parent, "pinned")?, "/faults/pinned")?, PAGES, "{parent}");
    }
    Ok(())
}
