//! Small families whose every page is known: the ledger must balance for them, and must not when an event is
//! wrong.

mod endings;
mod forks;
mod kinds;
mod unseen;
mod vfork;

use cowtrace_abi::Kind;

use super::*;
use crate::proc::{AnonPage, Vma};

const PAGE: u64 = 4096;
const PARENT: u32 = 1;
const CHILD: u32 = 2;
const GRANDCHILD: u32 = 3;
/// First page of the mapping that most tests are about.
const HEAP: u64 = 0x100;

/// A process with one mapping, 100 pages long, of which these are resident: (index, frame, mapped once).
fn process(pid: u32, pages: impl IntoIterator<Item = (u64, u64, bool)>) -> Snapshot {
    with_vma(pid, "[heap]", HEAP, 100, pages)
}

fn with_vma(
    pid: u32,
    name: &str,
    first: u64,
    length: u64,
    pages: impl IntoIterator<Item = (u64, u64, bool)>,
) -> Snapshot {
    let anon: Vec<AnonPage> = pages
        .into_iter()
        .map(|(index, frame, mapped_once)| AnonPage {
            page: first + index,
            frame,
            mapped_once,
            merged: false,
        })
        .collect();
    let private = anon.iter().filter(|page| page.mapped_once).count() as u64;
    let vma = Vma {
        start: first * PAGE,
        end: (first + length) * PAGE,
        name: name.into(),
        perms: "rw-p".into(),
        private_dirty_kb: private * 4,
        ordinary: true,
        ..Vma::default()
    };
    Snapshot { pid, page_size: PAGE, vmas: vec![vma], anon }
}

/// `count` pages with frames from `frame` on.
fn run(count: u64, frame: u64, mapped_once: bool) -> impl Iterator<Item = (u64, u64, bool)> {
    (0..count).map(move |index| (index, frame + index, mapped_once))
}

fn faults(pid: u32, kind: Kind, indexes: std::ops::Range<u64>) -> FamilyEvent {
    let pages: Vec<u64> = indexes.map(|index| HEAP + index).collect();
    let faults = pages.len() as u64;
    FamilyEvent::Pages { pid, kind, pages, faults }
}

const FORK: FamilyEvent = FamilyEvent::Fork { parent: PARENT, child: CHILD };

/// The only row of a process.
fn row(rows: &[Row], pid: u32) -> &Row {
    let mut own = rows.iter().filter(|row| row.pid == pid);
    let row = own.next().unwrap_or_else(|| panic!("no row for {pid} in {rows:#?}"));
    assert_eq!(own.next(), None);
    row
}

fn residuals(rows: &[Row]) -> Vec<(u32, i64)> {
    rows.iter().map(|row| (row.pid, row.residual_pages)).filter(|(_, residual)| *residual != 0).collect()
}

fn shared() -> [Snapshot; 2] {
    [process(PARENT, run(17, 500, false)), process(CHILD, run(17, 500, false))]
}

fn unshared() -> [Snapshot; 2] {
    [process(PARENT, run(17, 500, true)), process(CHILD, run(17, 900, true))]
}
