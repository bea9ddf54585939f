//! `--report`: pages and Markdown documents, each in a file of its own.
//!
//! A report is written whole to a file beside its place and then put there, so that nobody finds half of one, and a
//! failed run leaves an older report as it was.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use tempfile::NamedTempFile;

use super::super::Failure;
use crate::{
    export::{
        lab::{html, markdown},
        printable,
    },
    files::{beside, resolved},
    lab::LabReport,
};

/// Where a report goes, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReportPath {
    path: PathBuf,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Html,
    Markdown,
}

impl ReportPath {
    /// The form is in the name.
    pub(super) fn parse(path: PathBuf) -> Result<ReportPath, String> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        let form = match extension.as_deref() {
            Some("html" | "htm") => Form::Html,
            Some("md") => Form::Markdown,
            _ => return Err("the name of a report ends in .html (or .htm) or .md".to_owned()),
        };
        Ok(ReportPath { path, form })
    }

    /// The file's name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Reports that can be written: their files are open.
pub(super) struct Reports(Vec<ReportFile>);

struct ReportFile {
    at: ReportPath,
    place: Place,
}

enum Place {
    /// A file beside the place, and the place.
    Beside(NamedTempFile, PathBuf),
    /// A device or a pipe, which is not to be replaced.
    Special(File),
}

impl Reports {
    /// Creates the files.
    pub(super) fn create(paths: &[ReportPath]) -> Result<Reports, Failure> {
        let create = |at: &ReportPath| {
            let place = create(at)
                .with_context(|| format!("cannot create the report {}", at.path.display()))
                .map_err(Failure::failed)?;
            Ok(ReportFile { at: at.clone(), place })
        };
        paths.iter().map(create).collect::<Result<_, _>>().map(Reports)
    }

    /// Writes all of them, and says where they are; what fails for one does not stop the others.
    pub(super) fn write(self, report: &LabReport) -> Vec<Failure> {
        let write = |file: ReportFile| {
            let path = file.at.path.clone();
            let outcome = file.write(report);
            if outcome.is_ok() {
                // A message that nobody can read is no failure.
                let place = path.to_string_lossy();
                let message = format!("cowtrace: report in {}\n", printable(&place));
                let _ = io::stderr().write_all(message.as_bytes());
            }
            outcome.with_context(|| format!("cannot write the report {}", path.display()))
        };
        self.0.into_iter().filter_map(|file| write(file).err()).map(Failure::failed).collect()
    }
}

impl ReportFile {
    fn write(self, report: &LabReport) -> anyhow::Result<()> {
        match self.at.form {
            Form::Html => self.place.fill(html(report).as_bytes()),
            Form::Markdown => {
                let folder = figures_folder(&self.at.path);
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let document = markdown(report, &name);
                if !document.figures.is_empty() {
                    write_figures(&folder, &document.figures)
                        .with_context(|| format!("its figures go to {}", folder.display()))?;
                }
                self.place.fill(document.text.as_bytes())
            }
        }
    }
}

impl Place {
    fn beside(target: PathBuf, permissions: Option<fs::Permissions>) -> anyhow::Result<Place> {
        Ok(Place::Beside(beside(&target, permissions)?, target))
    }

    fn fill(self, content: &[u8]) -> anyhow::Result<()> {
        match self {
            Place::Beside(mut file, target) => {
                file.as_file_mut().write_all(content)?;
                // Some file systems find out only now that they are full.
                file.as_file().sync_all()?;
                file.persist(target).map_err(|refused| refused.error)?;
            }
            Place::Special(mut file) => file.write_all(content)?,
        }
        Ok(())
    }
}

fn write_figures(folder: &Path, figures: &[(String, String)]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, picture) in figures {
        Place::beside(folder.join(name), None)?.fill(picture.as_bytes())?;
    }
    Ok(())
}

fn create(at: &ReportPath) -> anyhow::Result<Place> {
    if at.form == Form::Markdown {
        let folder = figures_folder(&at.path);
        if fs::metadata(&folder).is_ok_and(|found| !found.is_dir()) {
            return Err(anyhow!("its figures go to the folder {}, which is none", folder.display()));
        }
    }
    // Links are followed: what they point to is replaced.
    let target = resolved(&at.path);
    match fs::metadata(&target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Place::beside(target, None),
        Err(error) => Err(error.into()),
        Ok(found) => {
            let file = File::options().write(true).open(&target)?;
            if found.is_file() {
                Place::beside(target, Some(found.permissions()))
            } else {
                Ok(Place::Special(file))
            }
        }
    }
}

/// Beside `lab.md`: `lab.figures`.
fn figures_folder(path: &Path) -> PathBuf {
    path.with_extension("figures")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn at(path: &Path) -> ReportPath {
        ReportPath::parse(path.to_owned()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_name_tells_the_form() {
        let form = |name: &str| ReportPath::parse(name.into()).map(|path| path.form);
        assert_eq!(
            (form("a.html"), form("a.HTM"), form("b/a.md")),
            (Ok(Form::Html), Ok(Form::Html), Ok(Form::Markdown))
        );
        for bad in ["a", "a.txt", ".html", "a.html/b"] {
            let error = form(bad).unwrap_err();
            assert!(error.contains(".html") && error.contains(".md"), "{bad}: {error}");
        }
    }

    #[test]
    fn nothing_is_there_until_it_is_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lab.html");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let dropped = Reports::create(&[at(&path)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(dropped);
        assert_eq!(names(scratch.path()), ["lab.html"]);
        let link = scratch.path().join("link.html");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let place = create(&at(&link)).unwrap();
        place.fill(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(scratch.path()), ["lab.html", "link.html"]);
    }

    #[test]
    fn a_full_disk_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let full = scratch.path().join("full.html");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        let error = create(&at(&full)).unwrap().fill(b"page").unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
    }

    #[test]
    fn what_cannot_be_created_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let (page, other) = (scratch.path().join("lab.html"), scratch.path().join("lab.md"));
        assert!(Reports::create(&[at(&page), at(&other)]).is_ok());
        fs::write(scratch.path().join("lab.figures"), "").unwrap();
        assert!(Reports::create(&[at(&other)]).is_err());
        assert!(Reports::create(&[at(&scratch.path().join("none/lab.md"))]).is_err());
    }
}
