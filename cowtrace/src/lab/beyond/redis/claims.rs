//! What is claimed of the save, and what was measured.

use std::collections::HashSet;

use cowtrace_abi::Kind;

use super::{
    figures::first_round,
    save::{AGAIN, FORKED, LOADED, SAVED, Save, VALUE_BYTES, private_dirty_kb},
};
use crate::lab::{
    claims::{Claims, Test},
    setting,
    size::kb,
    story::{CHILD, Checkpoint, PARENT},
};

const MIB: f64 = (1 << 20) as f64;
/// Pages that a process writes to whatever it does: stack, buffers, its own state.
const OWN_PAGES: u64 = 256;
/// Pages that both together have written by the first checkpoint after the fork, and tables that the child has added.
const BEGUN_PAGES: f64 = 64.0;
const ADDED_TABLES: f64 = 2.0;
/// Pages that a CPU gathers before it puts them into the lists of the page reclaim; until then it holds a reference.
const BATCHED_PAGES: u64 = 31;

/// Checks all of them.
pub(super) fn check(claims: &mut Claims, save: &Save) {
    at_the_fork(claims, save);
    redis_own_figures(claims, save);
    memory_needed(claims, save);
    when_the_child_is_gone(claims, save);
}

fn at_the_fork(claims: &mut Claims, save: &Save) {
    let both = || Some((save.story.process_at(FORKED, PARENT)?, save.story.process_at(FORKED, CHILD)?));
    let anon = both().map(|(parent, _)| parent.snapshot.anon.len() as f64);
    let shared = both().map(|(parent, child)| {
        let same = |anon: &&crate::proc::AnonPage| child.frame(anon.page) == Some(anon.frame);
        parent.snapshot.anon.iter().filter(same).count() as f64
    });
    let why = "fork copies page tables, not pages; both have begun to write to their own since";
    let anon = anon.unwrap_or(0.0);
    let own = 0.02f64.max(BEGUN_PAGES / anon);
    claims.check(
        Test::near("pages that both have, right after the fork", anon, own, shared)
            .unit("pages")
            .because(why),
    );
    let table_kb = both().map(|(_, child)| child.status.vm_pte_kb as f64);
    let told = save.report.pointer("/forks/0/page_table_kb").and_then(serde_json::Value::as_f64);
    let why = "this is what the fork does copy; the child has added what its own first faults needed";
    let table_kb = table_kb.unwrap_or(0.0);
    let added = 0.05f64.max(ADDED_TABLES * kb(1) as f64 / table_kb);
    claims.check(
        Test::near(
            "page tables that the fork made (tracer), against the child's VmPTE",
            table_kb,
            added,
            told,
        )
        .unit("kB")
        .because(why),
    );
}

fn redis_own_figures(claims: &mut Claims, save: &Save) {
    let Some(last) = save.last_of_both() else { return };
    let page = save.page_size();
    let pages_mib = |pages: u64| (pages * page) as f64 / MIB;
    let copies = save.faults_of_both(Kind::Copy, last).map(pages_mib);
    let private = last.process(CHILD).map(|child| private_dirty_kb(child) as f64 * 1024.0 / MIB);
    let info = |field: &str| save.info.number(field).ok().map(|bytes| bytes as f64 / MIB);
    let told = info("rdb_last_cow_size");
    // Not nearer: pages that the server's allocator gives back meanwhile are left to the child as well.
    let why = "each copy, whoever makes it, leaves the child with one more page of its own";
    let claim = "rdb_last_cow_size, against copies of parent and child (tracer)";
    claims.check(Test::near(claim, copies.unwrap_or(0.0), 0.08, told).unit("MiB").because(why));
    let why = "Redis' child reads its own smaps, and adds up this field";
    let claim = "rdb_last_cow_size, against the child's Private_Dirty after the last round (smaps)";
    claims.check(Test::near(claim, private.unwrap_or(0.0), 0.08, told).unit("MiB").because(why));
    let by_then = save.times.last().copied().unwrap_or_default();
    let current = save.cow_sizes.iter().rfind(|(at, _)| *at <= by_then).map_or(0, |&(_, bytes)| bytes);
    let why =
        "reading smaps is dear: the child does so once a second at most, and for a hundredth of its time";
    let claim = "current_cow_size after the last round, at most the child's Private_Dirty";
    claims.check(
        Test::at_most(claim, private.unwrap_or(0.0), Some(current as f64 / MIB)).unit("MiB").because(why),
    );
    let own = save.faults(CHILD, Kind::Copy, save.story.checkpoint(LOADED).unwrap_or(last), last);
    let why = "it reads the data, and writes to its own stack and buffers only";
    claims.check(Test::at_most("copies that the child made", OWN_PAGES, own).unit("pages").because(why));
}

fn memory_needed(claims: &mut Claims, save: &Save) {
    let (Some(loaded), Some(last)) = (save.story.checkpoint(LOADED), save.last_of_both()) else { return };
    let page = save.page_size();
    let bytes_mib = |bytes: u64| bytes as f64 / MIB;
    let grown = frames(last).checked_sub(frames(loaded)).map(|frames| bytes_mib(frames * page));
    let new = |kind| save.faults_of_both(kind, last);
    let copies = new(Kind::Copy);
    let made = copies.zip(new(Kind::Anon)).map(|(copies, anon)| bytes_mib((copies + anon) * page));
    let why = "a copy is a frame more; the old one stays, for the other";
    let claim =
        "extra memory: frames that the two have more than the one had, against copies and first touches";
    claims.check(Test::near(claim, made.unwrap_or(0.0), 0.03, grown).unit("MiB").because(why));

    let rss = loaded.process(PARENT).map_or(0, |process| process.status.vm_rss_kb * 1024);
    let part = bytes_mib(rss) * save.written as f64 / save.keys as f64;
    let claim =
        "extra memory when a tenth of the data is written during the save (001): at most a tenth of it";
    let values = page / VALUE_BYTES;
    let instead = format!(
        "keys are not pages. A page holds {values} of these values, so that a tenth of the keys, at random, is on \
         {:.0} % of the pages",
        100.0 * (1.0 - 0.9f64.powf(values as f64))
    );
    claims.check(Test::at_most(claim, part, grown).unit("MiB").known_wrong(instead));
    let claim = "extra memory (001): write rate x duration of the save, with the rate in bytes";
    let instead = "whole pages are copied, not bytes, and one SET writes to several: the value's, its header's, the \
                   dictionary's, the allocator's";
    let written = bytes_mib(save.written * VALUE_BYTES);
    claims.check(Test::at_most(claim, written, grown).unit("MiB").known_wrong(instead));
    let rounds = save.written.checked_div(save.round).unwrap_or(0);
    let bound = first_round(save).map(|pages| bytes_mib(pages * rounds * page));
    let claim = "extra memory, at most copied pages of the first round x rounds";
    let why = "a page is copied once in a save, however often it is written: the rate falls";
    claims.check(Test::at_most(claim, bound.unwrap_or(0.0), grown).unit("MiB").because(why));
}

fn when_the_child_is_gone(claims: &mut Claims, save: &Save) {
    let (Some(saved), Some(again)) = (save.story.checkpoint(SAVED), save.story.checkpoint(AGAIN)) else {
        return;
    };
    let faults = |kind| save.faults(PARENT, kind, saved, again);
    let why = "nobody else has the pages any more, but for a few that still wait in another CPU's list of new pages";
    let claim = "copies by setting keys again when the child is gone";
    claims.check(Test::at_most(claim, BATCHED_PAGES, faults(Kind::Copy)).unit("pages").because(why));
    let why = "pages that were shared are still write-protected; the first write to one only lifts that";
    let least = save.written_again / 10;
    claims.check(
        Test::at_least("faults without a copy meanwhile", least, faults(Kind::Reuse))
            .unit("faults")
            .because(why)
            .unless(setting::larger_pages()),
    );
}

/// Frames of anonymous pages that the processes have together.
fn frames(checkpoint: &Checkpoint) -> u64 {
    let anon = checkpoint.processes.iter().flat_map(|process| &process.snapshot.anon);
    anon.map(|anon| anon.frame).collect::<HashSet<u64>>().len() as u64
}
