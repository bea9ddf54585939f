//! Where a recording will be: sure before anything is traced, taken when the session begins.
//!
//! A file that is to be replaced stays until then. The new one is made beside it and has no connection open while it is
//! renamed: SQLite would go on to look for its journal at the old name.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};
use tempfile::TempPath;

use super::{
    RecordError, Recorder,
    read::{MAGIC, not_sqlite},
    schema::APPLICATION_ID,
    write::Writer,
};
use crate::files::beside;

/// Where the header of an SQLite file has the application's id.
const ID_AT: usize = 68;

/// What SQLite leaves beside a file whose writer was killed; the last two if somebody has changed the journal mode.
const SIDE_FILES: [&str; 3] = ["-journal", "-wal", "-shm"];

/// A recording that can be made. Its file goes again if the session never begins.
pub struct Place {
    /// As given.
    path: PathBuf,
    /// Absolute: SQLite has names of its own, such as ":memory:"; none of them is.
    target: PathBuf,
    /// The new file, with empty tables: at its place, or beside the one that is there.
    new: TempPath,
}

impl Place {
    /// Makes the file. With `force`, it will replace a recording of that name.
    pub fn create(path: &Path, force: bool) -> Result<Place, RecordError> {
        let failed = |answer| RecordError::Create { path: path.to_owned(), answer };
        let (target, new) = match fs::metadata(path) {
            Err(answer) if answer.kind() == io::ErrorKind::NotFound => {
                let target = std::path::absolute(path).map_err(failed)?;
                File::create_new(&target).map_err(|answer| match answer.kind() {
                    io::ErrorKind::AlreadyExists => RecordError::Exists { path: path.to_owned() },
                    _ => failed(answer),
                })?;
                (target.clone(), TempPath::try_from_path(target).map_err(failed)?)
            }
            Err(answer) => return Err(failed(answer)),
            Ok(found) if !found.is_file() => return Err(RecordError::NotAFile { path: path.to_owned() }),
            Ok(_) if !force => return Err(RecordError::Exists { path: path.to_owned() }),
            Ok(found) => {
                // Links are followed: what they point to is replaced.
                let target = fs::canonicalize(path).map_err(failed)?;
                if is_mounted(&target) {
                    return Err(failed(io::ErrorKind::ResourceBusy.into()));
                }
                if let Some(what) = foreign(&target).map_err(failed)? {
                    return Err(RecordError::Foreign { path: path.to_owned(), what });
                }
                let new = beside(&target, Some(found.permissions())).map_err(failed)?;
                (target, new.into_temp_path())
            }
        };
        let made = open(&new).and_then(Writer::new);
        made.map_err(|answer| RecordError::Write { path: path.to_owned(), answer })?;
        Ok(Place { path: path.to_owned(), target, new })
    }

    /// Puts the file in its place: the session has begun.
    pub fn begin(self) -> Result<Recorder, RecordError> {
        let failed = |answer| RecordError::Create { path: self.path.clone(), answer };
        self.new.persist(&self.target).map_err(|refused| failed(refused.error))?;
        for ending in SIDE_FILES {
            let mut name = self.target.clone().into_os_string();
            name.push(ending);
            match fs::remove_file(name) {
                Err(answer) if answer.kind() != io::ErrorKind::NotFound => return Err(failed(answer)),
                _ => {}
            }
        }
        match open(&self.target).and_then(Writer::of_tables) {
            Ok(writer) => Recorder::start(self.path, writer),
            Err(answer) => Err(RecordError::Write { path: self.path, answer }),
        }
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// Whether nothing can take the file's place, as when a container was given this one file.
fn is_mounted(target: &Path) -> bool {
    let is_it = |mount: &str| mount.split(' ').nth(4) == target.to_str();
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| mounts.lines().any(is_it))
}

/// What the file is if it must not be replaced. It is not opened by SQLite, which would touch what lies beside it.
fn foreign(path: &Path) -> io::Result<Option<&'static str>> {
    let mut head = Vec::new();
    let file = File::options().read(true).write(true).open(path)?;
    file.take(ID_AT as u64 + 4).read_to_end(&mut head)?;
    Ok(match head.get(ID_AT..) {
        _ if head.is_empty() => None,
        Some(id) if head.starts_with(MAGIC) && id == APPLICATION_ID.to_be_bytes() => None,
        _ => Some(not_sqlite(&head).unwrap_or("it is another program's SQLite database")),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{
        export::human_tests::report,
        model::{Numbers, Snapshot},
        recording::{ReadError, read},
    };

    fn error(path: &Path, force: bool) -> RecordError {
        Place::create(path, force).map(|_| ()).unwrap_err()
    }

    fn record(place: Place) {
        let snapshot = Snapshot { report: report(), numbers: Numbers::default() };
        place.begin().unwrap().finish(snapshot).unwrap();
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_recording_stays_until_the_next_session_has_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        record(Place::create(&path, false).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let old = fs::read(&path).unwrap();
        assert!(matches!(error(&path, false), RecordError::Exists { .. }));
        let place = Place::create(&path, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), old);
        drop(place);
        assert_eq!((fs::read(&path).unwrap(), files(folder.path())), (old, 1));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("recording", &link).unwrap();
        let recorder = Place::create(&link, true).unwrap().begin().unwrap();
        assert!(
            matches!(read(&path), Err(ReadError::Empty { .. })),
            "the name is right from the first commit on"
        );
        drop(recorder);
        assert!(link.is_symlink() && files(folder.path()) == 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_an_unfinished_recording_left_does_not_meet_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, killed) = (folder.path().join("recording"), folder.path().join("killed"));
        record(Place::create(&path, false).unwrap());
        let db = open(&path).unwrap();
        db.pragma_update(None, "cache_size", 1).unwrap();
        db.execute_batch("BEGIN; CREATE TABLE more (a); DELETE FROM processes").unwrap();
        fs::copy(&path, &killed).unwrap();
        let beside = |ending: &str| folder.path().join(format!("killed{ending}"));
        fs::copy(folder.path().join("recording-journal"), beside("-journal")).unwrap();
        fs::write(beside("-wal"), "of another journal mode").unwrap();
        drop(db);
        record(Place::create(&killed, true).unwrap());
        read(&killed).unwrap();
        assert_eq!(files(folder.path()), 2);
    }

    #[test]
    fn a_session_that_never_begins_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Place::create(&folder.path().join("recording"), false).unwrap());
        assert_eq!(files(folder.path()), 0);
    }

    #[test]
    fn what_is_no_recording_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let other = folder.path().join("other");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        for (path, word) in [
            (file("text", b"precious"), "no SQLite database"),
            (file("json", b"{\"schema\": 1}"), "JSON"),
            (file("magic", MAGIC), "another program"),
            (other, "another program"),
        ] {
            let before = fs::read(&path).unwrap();
            let message = error(&path, true).to_string();
            assert!(message.contains(word) && message.contains(path.to_str().unwrap()), "{message}");
            assert_eq!(fs::read(&path).unwrap(), before);
        }
        let begun = Place::create(&file("empty", b""), true).unwrap().begin();
        assert!(begun.is_ok(), "an empty file is no loss");
        assert!(matches!(error(folder.path(), true), RecordError::NotAFile { .. }));
        assert!(matches!(error(Path::new("/dev/null"), true), RecordError::NotAFile { .. }));
        assert!(matches!(error(&folder.path().join("no/such"), false), RecordError::Create { .. }));
    }
}
