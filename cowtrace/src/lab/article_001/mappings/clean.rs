//! `shared-clean-claim`: what a child's inherited memory is called in smaps.

use std::path::Path;

use cowtrace_abi::Kind;

use super::{
    super::SOURCE,
    file::{MappedFile, in_memory},
    kb,
};
use crate::{
    lab::{
        claims::Test,
        experiment::{Experiment, Lab, Outcome},
        story::{CHILD, Focus, PARENT, Since},
    },
    proc::Vma,
};

const PAGES: u64 = 256;

pub(super) const SHARED_CLEAN_CLAIM: Experiment = Experiment {
    id: "shared-clean-claim",
    source: SOURCE,
    title: "Shared_Clean is for files: inherited memory is Shared_Dirty",
    about: "A process writes to a buffer and reads a private mapping of a file as large, and forks. The \
            child reads the file, then writes to the buffer.",
    expect: "The buffer is Shared_Dirty in both, until the child's write makes it Private_Dirty in both. \
             Shared_Clean is what the file becomes.",
    lesson: "Clean means that the page can be had again from a file; memory that was written has none, so a \
             fork cannot make it clean. Whoever looks for sharing between forked processes in Shared_Clean \
             finds the program's code. And a clean page of a file that the child has not touched is not in \
             its memory at all.",
    focus: Focus::Buffer("the buffer"),
    size: None,
    run: shared_clean_claim,
};

fn shared_clean_claim(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let file = MappedFile::new(PAGES)?;
    let path = file.argument()?;
    let mut workload = lab.start("shared-clean", &[path.clone(), PAGES.to_string()], &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], "touched")?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    workload.go(CHILD, &[CHILD], READ)?;
    workload.go(CHILD, &[CHILD], WROTE)?;
    let (story, report) = workload.finish()?;

    let claims = &mut lab.claims;
    let buffer = |checkpoint, role, of: fn(&Vma) -> u64| story.buffer_at(checkpoint, role).map(of);
    let clean = buffer(FORKED, CHILD, |vma| vma.shared_clean_kb);
    claims.check(
        Test::equal("Shared_Clean of the child's inherited buffer before it writes", kb(PAGES), clean)
            .unit("kB")
            .known_wrong(
                "it was written, and no file has its content: the fork shares it as it is, dirty, and smaps \
                 has it under Shared_Dirty",
            ),
    );
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let why = "written before the fork, mapped by two since";
        let dirty = buffer(FORKED, role, |vma| vma.shared_dirty_kb);
        claims.equal(format!("Shared_Dirty of the {name}'s buffer before that"), kb(PAGES), dirty, "kB", why);
    }
    let anonymous = |of: fn(&Vma) -> u64| {
        let vmas = &story.process_at(FORKED, CHILD)?.snapshot.vmas;
        Some(vmas.iter().filter(|vma| vma.perms.ends_with('p') && vma.name.is_empty()).map(of).sum())
    };
    let why = "what holds for the buffer holds for all memory without a file";
    let clean = anonymous(|vma| vma.shared_clean_kb);
    claims.equal("Shared_Clean of all anonymous mappings of the child", 0, clean, "kB", why);

    let named = |checkpoint, role, of: fn(&Vma) -> u64| {
        Some(of(story.process_at(checkpoint, role)?.snapshot.named(&path)?))
    };
    let rss = named(FORKED, CHILD, |vma| vma.rss_kb);
    let why = "fork does not copy entries that a fault can find again in the page cache";
    claims.equal("Rss of the file in the child before it reads", 0, rss, "kB", why);
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let clean = named(READ, role, |vma| vma.shared_clean_kb);
        let why = "never written since it was saved, mapped by two: here the source's words fit";
        claims.check(
            Test::equal(
                format!("Shared_Clean of the file in the {name} once the child has read it"),
                kb(PAGES),
                clean,
            )
            .unit("kB")
            .because(why)
            .unless(file.in_memory()),
        );
    }
    let child = story.process_at(READ, CHILD);
    let vmas = child.map_or(&[][..], |child| &child.snapshot.vmas);
    let code = || vmas.iter().filter(|vma| vma.perms == "r-xp" && vma.name.starts_with('/'));
    let resident: u64 = code().map(|vma| vma.rss_kb).sum();
    let clean = child.map(|_| code().map(|vma| vma.shared_clean_kb).sum());
    let why = "code is never written, and the parent runs the same";
    claims.check(
        Test::equal("Shared_Clean of the child's code is all of its Rss", resident, clean)
            .unit("kB")
            .because(why)
            .unless(code().find_map(|vma| in_memory(Path::new(&vma.name)))),
    );

    let copies = story.buffer_faults(CHILD, Kind::Copy, Since::Checkpoint(READ));
    let why = "each page that is written is copied";
    claims.equal("copies by the child's write", PAGES, copies, "pages", why);
    for (role, name) in [(PARENT, "parent"), (CHILD, "child")] {
        let why = match role {
            PARENT => "the old pages, dirty all along, are its alone",
            _ => "after divergence they are private and dirty, as the source says",
        };
        let dirty = buffer(WROTE, role, |vma| vma.private_dirty_kb);
        claims.equal(format!("Private_Dirty of the {name}'s buffer after that"), kb(PAGES), dirty, "kB", why);
    }
    Ok(Outcome { story, report })
}

const FORKED: &str = "forked";
const READ: &str = "child read the file";
const WROTE: &str = "child wrote";
