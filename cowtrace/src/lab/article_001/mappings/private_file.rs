//! `private-file`: a private mapping of a file copies from the page cache, with or without a fork.

use cowtrace_abi::Kind;

use super::{super::SOURCE, file::MappedFile, kb, sample};
use crate::lab::{
    experiment::{Experiment, Lab, Outcome},
    report::Figures,
    story::{CHILD, Focus, PARENT, Since, Story},
};

const PAGES: u64 = 1000;

pub(super) const PRIVATE_FILE: Experiment = Experiment {
    id: "private-file",
    source: SOURCE,
    title: "A private file mapping copies from the page cache, and leaves the file alone",
    about: "A file of 1,000 pages is mapped privately, twice. One mapping is read and then written, the \
            other written at once. Then the process forks, and the child writes to the second mapping.",
    expect: "Each page written is copied once from the page cache, before there is any child. After the fork \
             the same pages are ordinary shared ones, and copied as such.",
    lesson: "Copy on write does not need a fork: MAP_PRIVATE of a file is enough, and that is how programs \
             and libraries get their initialised data. What was copied once is anonymous memory, and has \
             nothing to do with the file any more. Whether a read maps a page that the write then finds \
             protected, or the write finds none, is up to the file system's page sizes; the sum is not.",
    focus: Focus::Buffer("the mapped file"),
    size: None,
    run: private_file,
};

fn private_file(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let file = MappedFile::new(PAGES)?;
    let args = [file.argument()?, PAGES.to_string()];
    let mut workload = lab.start("private-file", &args, &["parent", "child"])?;
    workload.go(PARENT, &[PARENT], READ)?;
    workload.go(PARENT, &[PARENT], WRITTEN)?;
    workload.go(PARENT, &[PARENT], WRITTEN_FIRST)?;
    let [content_read, content_written, ..] = sample(&mut workload)?;
    workload.go(PARENT, &[PARENT, CHILD], "forked")?;
    workload.go(CHILD, &[CHILD], "child wrote")?;
    workload.go(PARENT, &[PARENT], "parent looked")?;
    let [kept, ..] = sample(&mut workload)?;
    let (story, report) = workload.finish()?;

    let claims = &mut lab.claims;
    let of_file = |checkpoint| FileCopies::of(&story, checkpoint);
    let (read, written) = (of_file(WRITTEN), of_file(WRITTEN_FIRST));
    let anonymous = |checkpoint| story.buffer_at(checkpoint, PARENT).map(|vma| vma.anonymous_kb);
    let why = "reading maps the page cache's own pages";
    claims.equal("Anonymous of the mapping that was only read", 0, anonymous(READ), "kB", why);
    let why = "each page is copied once, whether the read had mapped it or not";
    claims.equal("file copies where it was read first", PAGES, read.map(FileCopies::sum), "pages", why);
    let why = "no page was mapped yet: the write brings in a copy at once";
    claims.equal("file copies where it was written first", PAGES, written.map(FileCopies::sum), "pages", why);
    let why = "to find it protected, somebody must have mapped it by a read";
    claims.equal(
        "of these, of pages that a read had mapped",
        0,
        written.map(|copies| copies.after_read),
        "pages",
        why,
    );
    let why = "the copies are the process's own";
    claims.equal("Anonymous after the read and the write", kb(PAGES), anonymous(WRITTEN), "kB", why);
    claims.equal("Anonymous after the write only", kb(PAGES), anonymous(WRITTEN_FIRST), "kB", why);
    let why = "the clean version comes from the page cache: what was not written is still the file's";
    let content = Some(content_read + content_written);
    claims.equal("pages of both whose other bytes are the file's", 2 * PAGES, content, "pages", why);
    let why = "nobody had forked";
    let before_fork = story.buffer_faults(PARENT, Kind::Copy, Since::Start);
    claims.equal("copies of shared anonymous pages by the parent", 0, before_fork, "pages", why);

    let why = "copied once, they are anonymous pages, which the fork has shared as any other";
    let copies = story.buffer_faults(CHILD, Kind::Copy, Since::Checkpoint("forked"));
    claims.equal("copies by the child after the fork", PAGES, copies, "pages", why);
    let why = "the page cache is not asked again";
    let of_child = [Kind::FileAfterRead, Kind::FileFirstWrite]
        .map(|kind| story.buffer_faults(CHILD, kind, Since::Checkpoint("forked")));
    claims.equal("file copies by the child", 0, of_child.into_iter().sum(), "pages", why);
    let why = "the child has written to copies of its own";
    claims.equal("pages in which the parent still finds what it wrote", PAGES, Some(kept), "pages", why);
    let why = "a private mapping never writes to the file, whoever maps it";
    claims.equal("pages of the file on disk that have changed", 0, Some(file.changed_pages()?), "pages", why);
    lab.tables.extend(split(read, written));
    Ok(Outcome { story, report })
}

const READ: &str = "read";
const WRITTEN: &str = "then written";
const WRITTEN_FIRST: &str = "written first";

/// Copies of page-cache pages.
#[derive(Clone, Copy)]
struct FileCopies {
    after_read: u64,
    first_write: u64,
}

impl FileCopies {
    /// Those in the mapping that the step was about at this checkpoint.
    fn of(story: &Story, checkpoint: &str) -> Option<FileCopies> {
        let mapping = &story.process_at(checkpoint, PARENT)?.buffer;
        let faults = |kind| story.faults(PARENT, Some(mapping), Some(kind), Since::Start);
        Some(FileCopies {
            after_read: faults(Kind::FileAfterRead)?,
            first_write: faults(Kind::FileFirstWrite)?,
        })
    }

    fn sum(self) -> u64 {
        self.after_read + self.first_write
    }
}

/// How the copies came about; depends on the file system.
fn split(read: Option<FileCopies>, written: Option<FileCopies>) -> Option<Figures> {
    let row = |name: &str, copies: FileCopies| {
        vec![name.to_owned(), copies.after_read.to_string(), copies.first_write.to_string()]
    };
    Some(Figures {
        title: "Copies from the page cache, by what the write found".into(),
        columns: ["", "page mapped by a read", "no page"].map(str::to_owned).into(),
        rows: vec![row("read, then written", read?), row("written first", written?)],
    })
}
