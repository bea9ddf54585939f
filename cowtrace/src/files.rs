//! Files of the user: which names stand for one file, and files that are to take another's place.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Device and inode: two names with the same ones are one file.
pub(crate) fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// The file behind links; of a file that is not there yet, the place where it will be.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let in_folder = || Some(fs::canonicalize(folder(path)).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

/// A file to be filled, in the folder of the one whose place it will take, with these permissions, if any are given.
pub(crate) fn beside(target: &Path, permissions: Option<fs::Permissions>) -> io::Result<NamedTempFile> {
    let mut prefix = OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".");
    // Made like any new file, for all whom the umask lets read it, unlike other temporary files.
    let new = |path: &Path| File::options().write(true).create_new(true).open(path);
    let file = tempfile::Builder::new().prefix(&prefix).make_in(folder(target), new)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    Ok(file)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
