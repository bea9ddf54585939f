//! Debian's packages without installing them: apt with a configuration of its own, so that the machine's package lists
//! and architectures stay as they are.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use crate::{arch::Arch, sys};

/// How long package lists are good for.
const LISTS_AGE: Duration = Duration::from_secs(24 * 3600);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where all that is kept from one run to the next is.
pub fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("cowtrace"))
}

/// One suite of one repository, for one architecture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The repository's address.
    pub repository: String,
    /// The suite, as apt's sources name it.
    pub suite: String,
    /// Whose packages.
    pub arch: Arch,
}

/// A private view of Debian's suites.
pub struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Opens the view of this name, and fetches its lists if they are missing or old. To it, the machine is of
    /// architecture `arch`, and nothing is installed.
    pub fn open(name: &str, arch: Arch, sources: &BTreeSet<Source>) -> Result<Archive> {
        let directory = cache()?.join("apt").join(name);
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let archive = Archive { directory };
        let key = if Path::new(KEYRING).is_file() { format!(" signed-by={KEYRING}") } else { String::new() };
        let line = |source: &Source| {
            let Source { repository, suite, arch } = source;
            format!("deb [arch={} target=Packages{key}] {repository} {suite} main\n", arch.debian())
        };
        let sources: String = sources.iter().map(line).collect();
        let (root, arch) = (archive.directory.display(), arch.debian());
        let settings = format!(
            "Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\nDir::Cache \"{root}/cache\";\n\
             APT::Sandbox::User \"root\";\nAPT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
             APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\n"
        );
        let list = archive.directory.join("sources.list");
        let stamp = archive.directory.join("updated");
        let known = fs::read_to_string(&list).is_ok_and(|old| old == sources);
        write(&archive.directory.join("apt.conf"), &settings)?;
        write(&archive.directory.join("status"), "")?;
        if !known || age(&stamp).is_none_or(|age| age > LISTS_AGE) {
            eprintln!("apt: fetching package lists ({name})");
            write(&list, &sources)?;
            sys::output(archive.apt("apt-get").args(["update", "-qq"]))?;
            write(&stamp, "")?;
        }
        Ok(archive)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.directory.join("apt.conf"));
        command
    }

    /// The version of a package that a suite has.
    pub fn version(&self, package: &str, suite: &str) -> Result<String> {
        let offered = sys::output(self.apt("apt-cache").args(["madison", package]))?;
        let version = version_in(&offered, suite);
        version.map(str::to_owned).with_context(|| format!("Debian's {suite} has no {package}"))
    }

    /// What is known of a package (`NAME=VERSION`).
    pub fn show(&self, package: &str) -> Result<String> {
        sys::output(self.apt("apt-cache").args(["show", package]))
    }

    /// Brings a package (`NAME=VERSION`) into a directory, which is emptied before, and gives its file.
    pub fn download(&self, package: &str, into: &Path) -> Result<PathBuf> {
        emptied(into)?;
        sys::output(self.apt("apt-get").args(["download", "-q", package]).current_dir(into))?;
        let first = fs::read_dir(into)?.next().context("apt-get download brought no file")?;
        Ok(first?.path())
    }

    /// These packages and all that they depend on, unpacked into a directory that is kept; nothing is done while they
    /// are what they were.
    pub fn unpacked(&self, packages: &[&str], into: &Path) -> Result<()> {
        let install = |option: &str| {
            let mut apt = self.apt("apt-get");
            apt.args(["install", "--yes", "-qq", option]).args(packages);
            sys::output(&mut apt)
        };
        let uris = install("--print-uris")?;
        let files = file_names(&uris);
        let (list, wanted) = (into.join(".packages"), files.join("\n"));
        if fs::read_to_string(&list).is_ok_and(|kept| kept == wanted) {
            return Ok(());
        }
        eprintln!("apt: fetching {} packages ({})", files.len(), packages.join(" "));
        install("--download-only")?;
        emptied(into)?;
        for file in &files {
            let fetched = self.directory.join("cache/archives").join(file);
            sys::output(Command::new("dpkg-deb").arg("--extract").arg(&fetched).arg(into))?;
            fs::remove_file(&fetched).with_context(|| format!("cannot remove {}", fetched.display()))?;
        }
        // Last, because it says that all of them are there.
        write(&list, &wanted)
    }
}

/// The machine's own sources of Debian, for an architecture.
pub fn own_sources(arch: Arch) -> Result<BTreeSet<Source>> {
    let source = |own: &Own| Source { repository: own.repository.clone(), suite: own.suite.clone(), arch };
    Ok(configured()?.iter().map(source).collect())
}

/// The machine's own mirror of Debian's releases.
pub fn mirror() -> Result<String> {
    let releases = configured()?.into_iter().find(|own| own.label == "Debian");
    releases.map(|own| own.repository).context("apt's sources on this machine name no mirror of Debian")
}

/// A suite of Debian in apt's configuration.
struct Own {
    /// `Debian`, or `Debian-Security`.
    label: String,
    repository: String,
    suite: String,
}

fn configured() -> Result<Vec<Own>> {
    let format = "$(ORIGIN) $(COMPONENT) $(LABEL) $(REPO_URI) $(RELEASE)";
    let mut apt = Command::new("apt-get");
    let targets = sys::output(apt.args(["indextargets", "--format", format, "Created-By: Packages"]))
        .context("what is missing here comes from Debian's packages, through apt")?;
    let found = suites_in(&targets);
    if found.is_empty() {
        bail!("apt's sources on this machine name no mirror of Debian");
    }
    Ok(found)
}

fn suites_in(targets: &str) -> Vec<Own> {
    let own = |line: &str| {
        let mut words = line.strip_prefix("Debian main ")?.split(' ').map(str::to_owned);
        Some(Own { label: words.next()?, repository: words.next()?, suite: words.next()? })
    };
    targets.lines().filter_map(own).collect()
}

/// `package | version | source`: the version that a suite has.
fn version_in<'a>(madison: &'a str, suite: &str) -> Option<&'a str> {
    madison.lines().find_map(|line| {
        let mut fields = line.split('|').map(str::trim);
        let (version, source) = (fields.nth(1)?, fields.next()?);
        source.contains(&format!(" {suite}/")).then_some(version)
    })
}

/// `'address' file size sum`: the files.
fn file_names(uris: &str) -> Vec<&str> {
    uris.lines().filter_map(|line| line.strip_prefix('\'')?.split_whitespace().nth(1)).collect()
}

fn emptied(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn age(file: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(file).ok()?.modified().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_names_its_version() {
        let madison = "linux-image-cloud-amd64 | 7.2.13-1 | http://mirror/debian sid/main amd64 Packages\n\
                       linux-image-cloud-amd64 | 6.1.176-1 | http://mirror/debian bookworm/main amd64 Packages\n";
        assert_eq!(version_in(madison, "bookworm"), Some("6.1.176-1"));
        assert_eq!(version_in(madison, "trixie"), None);
    }

    #[test]
    fn only_debians_own_suites_are_sources() {
        let targets = "Debian main Debian http://mirror/debian/ bookworm\nOther main Debian http://elsewhere/ bookworm\n\
                       Debian main Debian-Security http://mirror/security/ bookworm-security\n";
        let own = suites_in(targets);
        let suites: Vec<_> = own.iter().map(|own| (own.label.as_str(), own.suite.as_str())).collect();
        assert_eq!(suites, [("Debian", "bookworm"), ("Debian-Security", "bookworm-security")]);
    }

    #[test]
    fn files_are_read_from_what_apt_would_fetch() {
        let uris = "'http://mirror/d/dash_0.5.12-2_arm64.deb' dash_0.5.12-2_arm64.deb 90204 SHA256:31\n\
                    'http://mirror/l/libc6_2.36%3a1_arm64.deb' libc6_2.36%3a1_arm64.deb 1 SHA256:00\n";
        assert_eq!(file_names(uris), ["dash_0.5.12-2_arm64.deb", "libc6_2.36%3a1_arm64.deb"]);
        assert!(file_names("").is_empty());
    }
}
