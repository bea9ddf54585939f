//! Files that are written at the end: opened before anything is traced, and left as they were until then.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};

use super::Failure;
use crate::files::{identity, resolved};

/// A file that can be written. What it holds stays until there is something to write; if there never is, a file that was
/// made for it is removed again.
pub(super) struct OutFile {
    file: File,
    path: PathBuf,
    /// It holds something old: no device, no pipe, not what a standard stream has been redirected to.
    has_past: bool,
    /// It was made here, and nothing has been written to it.
    is_blank: bool,
}

impl OutFile {
    /// Opens it, or makes it.
    pub(super) fn open(path: &Path) -> Result<OutFile, Failure> {
        OutFile::open_or_make(path)
            .with_context(|| format!("cannot create the output file {}", path.display()))
            .map_err(Failure::failed)
    }

    fn open_or_make(path: &Path) -> io::Result<OutFile> {
        let mut options = File::options();
        options.write(true);
        let (file, is_blank) = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (options.create(true).truncate(false).open(path)?, true)
            }
            opened => (opened?, false),
        };
        let found = file.metadata()?;
        // Opened a second time, /dev/stdout would begin at the front of what it was redirected to.
        let stream = standard_stream(&found)?;
        let has_past = found.is_file() && stream.is_none();
        Ok(OutFile { file: stream.unwrap_or(file), path: path.to_owned(), has_past, is_blank })
    }

    /// To learn what it is.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes all that it is to hold; `what` that is, is for what is said if it fails.
    pub(super) fn write(mut self, what: &str, content: &[u8]) -> Result<(), Failure> {
        let written = self.empty().and_then(|()| self.file.write_all(content));
        self.is_blank &= written.is_err();
        written
            .with_context(|| format!("cannot write {what} to {}", self.path.display()))
            .map_err(Failure::failed)
    }

    /// The file itself, emptied, for what is written bit by bit.
    pub(super) fn begin(mut self) -> Result<File, Failure> {
        let begun = self.empty().and_then(|()| self.file.try_clone());
        self.is_blank &= begun.is_err();
        begun.with_context(|| format!("cannot write to {}", self.path.display())).map_err(Failure::failed)
    }

    fn empty(&self) -> io::Result<()> {
        if self.has_past { self.file.set_len(0) } else { Ok(()) }
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        let is_ours = || Some(identity(&self.file.metadata().ok()?) == identity(&self.path.metadata().ok()?));
        // Somebody may have put another file there.
        if self.is_blank && is_ours() == Some(true) {
            let _ = fs::remove_file(resolved(&self.path));
        }
    }
}

/// Standard output or standard error, if it goes to this regular file.
fn standard_stream(found: &fs::Metadata) -> io::Result<Option<File>> {
    let goes_there = |stream: BorrowedFd<'_>| {
        let stream = File::from(stream.try_clone_to_owned()?);
        let same = found.is_file() && identity(&stream.metadata()?) == identity(found);
        Ok(same.then_some(stream))
    };
    match goes_there(io::stdout().as_fd())? {
        None => goes_there(io::stderr().as_fd()),
        stream => Ok(stream),
    }
}

/// Refuses outputs that are one file, or one of the files that are read.
pub(super) fn refuse_same<'a>(
    outputs: impl IntoIterator<Item = &'a Path>,
    inputs: &[&Path],
) -> Result<(), Failure> {
    let mut before: Vec<&Path> = Vec::new();
    for output in outputs {
        if let Some(input) = inputs.iter().find(|input| is_same(output, input)) {
            let input = input.display();
            return Err(Failure::usage(anyhow!("the output would overwrite {input}: name another file")));
        }
        if before.iter().any(|other| is_same(output, other)) {
            let output = output.display();
            return Err(Failure::usage(anyhow!(
                "{output} is named twice: each output needs a file of its own"
            )));
        }
        before.push(output);
    }
    Ok(())
}

/// Whether one would overwrite the other. Devices and pipes take everything, and so does what a standard stream goes to.
fn is_same(a: &Path, b: &Path) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => {
            identity(&a) == identity(&b) && a.is_file() && !matches!(standard_stream(&a), Ok(Some(_)))
        }
        _ => resolved(a) == resolved(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(outputs: &[&Path], inputs: &[&Path]) -> bool {
        refuse_same(outputs.iter().copied(), inputs).is_err()
    }

    #[test]
    fn what_a_file_holds_stays_until_there_is_something_to_write() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("report");
        fs::write(&path, "an old report").unwrap();
        drop(OutFile::open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "an old report");
        OutFile::open(&path).unwrap().write("the report", b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        OutFile::open(&path).unwrap().begin().unwrap().write_all(b"li").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "li");
        OutFile::open(&path).unwrap().write("the stacks", b"").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "", "nothing is something, too");
    }

    #[test]
    fn a_new_file_that_gets_nothing_is_removed_again() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("report");
        let file = OutFile::open(&path).unwrap();
        assert!(path.exists(), "whether it can be made is known at once");
        drop(file);
        assert!(!path.exists());
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        drop(OutFile::open(&link).unwrap());
        assert!(!path.exists() && link.is_symlink());
        OutFile::open(&link).unwrap().write("the stacks", b"").unwrap();
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        let file = OutFile::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        drop(file);
        assert!(path.exists());
        assert!(
            OutFile::open(&place.path().join("no/such")).is_err() && OutFile::open(place.path()).is_err()
        );
    }

    #[test]
    fn devices_and_pipes_are_written_as_they_are() {
        OutFile::open(Path::new("/dev/null")).unwrap().write("the report", b"text").unwrap();
        let full = OutFile::open(Path::new("/dev/full")).unwrap().write("the report", b"text");
        assert!(format!("{:?}", full.unwrap_err()).contains("No space left"));
        let place = tempfile::tempdir().unwrap();
        let fifo = place.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read_to_string(fifo).unwrap()
        });
        OutFile::open(&fifo).unwrap().write("the report", b"text").unwrap();
        assert_eq!(reader.join().unwrap(), "text");
        assert!(fifo.exists());
    }

    #[test]
    fn each_output_needs_a_file_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let name = |name: &str| place.path().join(name);
        let (a, same, b, link) = (name("a"), name("./a"), name("b"), name("link"));
        assert!(refused(&[&a, &b, &a], &[]) && refused(&[&a, &same], &[]) && !refused(&[&a, &b], &[]));
        fs::write(&a, "").unwrap();
        fs::hard_link(&a, &link).unwrap();
        assert!(refused(&[&a, &link], &[]) && refused(&[&b, &link], &[&a]) && !refused(&[&b], &[&a, &link]));
        let null = Path::new("/dev/null");
        assert!(!refused(&[null, null], &[]));
    }
}
