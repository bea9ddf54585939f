//! `fork-exec`: the sharing ends before anything is worth copying.

use cowtrace_abi::Kind;

use super::{
    super::SOURCE,
    launch::{BUFFER_BYTES, LAUNCHED, Launch, buffer_pages},
};
use crate::lab::{
    claims::Test,
    experiment::{Experiment, Lab, Outcome},
    story::{Focus, PARENT},
};

/// Most pages that C code touches on its way from fork to exec: a few of the stack, the thread's own data and
/// variables of the C library and the loader.
const A_FEW: u64 = 16;

/// Launches by a process that writes all the time.
const BUSY_ROUNDS: u64 = 16;

pub(super) const FORK_EXEC: Experiment = Experiment {
    id: "fork-exec",
    source: SOURCE,
    title: "fork and exec copy a handful of pages, however large the parent",
    about: "A process with 64 MiB of written memory forks, and the child becomes another program at once. \
            Then the parent writes to all of it. Last, a process does the same while another of its threads \
            writes all the time.",
    expect: "No page of the buffer is copied; a few of stack and C library are, by code that runs between \
             the two calls. The parent's writes afterwards fault once per page, and copy nothing.",
    lesson: "exec drops the child's sharing, so there is nobody left to copy for: close to no copies, but \
             not none, as even returning from fork writes to the stack. What remains is what fork did: page \
             tables of an entry per page, and a write-protected parent that takes one fault for each page it \
             writes next. vfork and posix_spawn avoid both.",
    focus: Focus::Buffer("the parent's buffer"),
    size: None,
    run: fork_exec,
};

fn fork_exec(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let launch = Launch::run(lab, "fork-exec")?;
    let busy = while_writing(lab)?;
    let claims = &mut lab.claims;
    let pages = buffer_pages();

    let in_buffer = launch.buffer().and_then(|buffer| launch.by_child_at(&buffer));
    let why = "exec replaced the child's memory before it wrote there";
    claims.equal("pages of the buffer that the child copied", 0, in_buffer, "pages", why);
    let by_parent = launch.story.buffer_faults_at(LAUNCHED, PARENT, Kind::Copy);
    let why = "the parent waited";
    claims.equal("pages of the buffer that the parent copied", 0, by_parent, "pages", why);
    let copies =
        launch.by_child(Kind::Copy).zip(launch.by_parent(Kind::Copy)).map(|(child, parent)| child + parent);
    let why = "stack, thread data, variables of libc and loader: what is written between fork and exec";
    claims.within(
        "pages copied at all until the program's end, almost none (002)",
        1..=A_FEW,
        copies,
        "pages",
        why,
    );
    claims.check(
        Test::equal("pages ever copied, if exec follows at once (002: no memory is)", 0, copies)
            .unit("pages")
            .known_wrong(
                "exec itself copies none, but the code before it runs on a shared stack with shared \
                 variables of the C library, and writes to them",
            ),
    );
    let bill = launch.bill();
    // Not the parent's: after the exec it may still copy a page of its own, to which another CPU's batch for
    // the LRU lists holds one reference more.
    let billed = bill.and_then(|bill| bill["child_copied_bytes"].as_u64());
    let listed = launch.by_child(Kind::Copy).unwrap_or(0) * procfs::page_size();
    let why = "the tracer's counters, read at the exec, and its list of pages are kept apart, and must agree";
    claims.equal("the child's copies in the bill for the fork", listed, billed, "bytes", why);
    let why = "the child became another program; what it shared was given back then";
    claims.equal("forks whose sharing was ended by exec", 1, launch.ended_by_exec(), "forks", why);
    let tables = bill.and_then(|bill| bill["page_table_kb"].as_u64());
    let why = "8 bytes for each page of the buffer, all for nothing: this is what such a fork costs";
    claims.check(
        Test::at_least("page tables that the fork copied", pages * 8 / 1024, tables).unit("kB").because(why),
    );

    let private = launch.story.buffer_at(LAUNCHED, PARENT).map(|vma| vma.private_dirty_kb);
    let why = "it is the parent's alone again";
    let all_kb = BUFFER_BYTES / 1024;
    claims.equal("Private_Dirty of the buffer after the program's end", all_kb, private, "kB", why);
    let why = "nobody else has them";
    claims.equal(
        "pages that the parent's next write copies",
        0,
        launch.afterwards(Some(Kind::Copy)),
        "pages",
        why,
    );
    let why = "fork write-protected each, and only a fault takes that back";
    claims.equal(
        "faults of that write all the same",
        pages,
        launch.afterwards(Some(Kind::Reuse)),
        "faults",
        why,
    );

    let why = "the thread does write meanwhile, to what is shared by then";
    let all = busy.iter().sum();
    claims.check(
        Test::at_least("pages copied by a parent that keeps writing, all launches", 1, Some(all))
            .unit("pages")
            .because(why),
    );
    let why = "the exec comes before it gets far (003, of a garbage collector)";
    let usual = busy.get(busy.len() / 2).copied();
    let claim = "pages of the 64 MiB that it copies in one launch, median";
    claims.check(Test::at_most(claim, pages / 4, usual).unit("pages").because(why));
    let Launch { story, report, .. } = launch;
    Ok(Outcome { story, report })
}

/// Pages that a parent copied, with a thread that writes to the buffer all the time, in each of some
/// launches; ascending.
fn while_writing(lab: &mut Lab<'_>) -> anyhow::Result<Vec<u64>> {
    let args = [buffer_pages(), BUSY_ROUNDS].map(|number| number.to_string());
    let mut workload = lab.start("busy-launches", &args, &["parent"])?;
    workload.go(PARENT, &[PARENT], "launched")?;
    let (_, report) = workload.finish()?;
    let forks = report["forks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes = forks.iter().filter_map(|fork| fork["parent_copied_bytes"].as_u64());
    let mut pages: Vec<u64> = bytes.map(|bytes| bytes / procfs::page_size()).collect();
    pages.sort_unstable();
    Ok(pages)
}
