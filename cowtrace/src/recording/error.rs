//! What can go wrong with a recording.

use std::{io, path::PathBuf};

use super::schema::VERSION;

/// Why a recording cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is a file of that name.
    #[error("{} exists: it is replaced only with --force", path.display())]
    Exists {
        /// As given.
        path: PathBuf,
    },
    /// There is something else of that name, which is not to be replaced.
    #[error("cannot create the recording {}: it is no regular file", path.display())]
    NotAFile {
        /// As given.
        path: PathBuf,
    },
    /// There is a file of that name that is not to be lost by mistake.
    #[error("{} is not replaced: it is not a recording of `cowtrace record` ({what}); name another file", path.display())]
    Foreign {
        /// As given.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// No file could be made.
    #[error("cannot create the recording {}: {answer}", path.display())]
    Create {
        /// As given.
        path: PathBuf,
        /// The kernel's answer.
        answer: io::Error,
    },
    /// SQLite could not write.
    #[error("cannot write the recording {}: {answer}", path.display())]
    Write {
        /// As given.
        path: PathBuf,
        /// SQLite's answer.
        answer: rusqlite::Error,
    },
    /// The thread that writes could not be started, or is gone.
    #[error("cannot run the thread that writes the recording: {answer}")]
    Thread {
        /// The system's answer.
        answer: io::Error,
    },
}

/// Why a file cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read at all.
    #[error("cannot read {}: {answer}", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// The kernel's answer.
        answer: io::Error,
    },
    /// A directory or a device.
    #[error("{} is no regular file, so no recording", path.display())]
    NotAFile {
        /// As given.
        path: PathBuf,
    },
    /// Another kind of file.
    #[error("{} is not a recording of `cowtrace record`: {what}", path.display())]
    NotARecording {
        /// As given.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// Made by a later version.
    #[error(
        "{} was recorded by a newer cowtrace: its format is {found}, and this cowtrace reads up to {VERSION}",
        path.display()
    )]
    Newer {
        /// As given.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// The recorder ended before the first snapshot.
    #[error("{} is empty: its recorder ended before the first snapshot", path.display())]
    Empty {
        /// As given.
        path: PathBuf,
    },
    /// An unfinished snapshot could not be rolled back.
    #[error(
        "cannot read {}: it needs {}-journal beside it, and write access, to roll back an unfinished snapshot: {answer}",
        path.display(), path.display()
    )]
    Unfinished {
        /// As given.
        path: PathBuf,
        /// SQLite's answer.
        answer: rusqlite::Error,
    },
    /// The file is cut or overwritten.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// As given.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// SQLite could not read it for another reason.
    #[error("cannot read {}: {answer}", path.display())]
    Sqlite {
        /// As given.
        path: PathBuf,
        /// SQLite's answer.
        answer: rusqlite::Error,
    },
}
