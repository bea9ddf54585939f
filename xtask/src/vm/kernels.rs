//! The kernels of the matrix: Debian's, fetched through the machine's own apt configuration, and kept.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use crate::sys;

/// How long package lists are good for.
const LISTS_AGE: Duration = Duration::from_secs(24 * 3600);
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// Since sid's 7.x the image is in a package that the named one depends on.
const IMAGE_PACKAGES: [&str; 2] = ["linux-binary-", "linux-image-"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel line, and the Debian suite that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// As on the command line.
    pub name: &'static str,
    suite: &'static str,
}

/// All of the matrix, oldest first.
pub const LINES: [Line; 4] = [
    Line { name: "5.10", suite: "bullseye" },
    Line { name: "6.1", suite: "bookworm" },
    Line { name: "6.12", suite: "trixie" },
    Line { name: "7.2", suite: "sid" },
];

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its line.
    pub line: Line,
    /// The compressed kernel.
    pub vmlinuz: PathBuf,
}

/// Where all that the matrix keeps from one run to the next is.
pub fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("cowtrace/vm"))
}

/// A private view of Debian's suites, so that the machine's own package lists stay as they are.
pub struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Opens it, and fetches the lists if they are missing or old.
    pub fn open() -> Result<Archive> {
        let directory = cache()?.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let archive = Archive { directory };
        let mirror = mirror()?;
        let key = if Path::new(KEYRING).is_file() { format!(" signed-by={KEYRING}") } else { String::new() };
        let sources: String =
            LINES.iter().map(|l| format!("deb [arch=amd64{key}] {mirror} {} main\n", l.suite)).collect();
        let root = archive.directory.display();
        let settings = format!(
            "Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::State::lists \"{root}/lists\";\nDir::Cache \"{root}/cache\";\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n"
        );
        write(&archive.directory.join("sources.list"), &sources)?;
        write(&archive.directory.join("apt.conf"), &settings)?;
        let stamp = archive.directory.join("updated");
        if age(&stamp).is_none_or(|age| age > LISTS_AGE) {
            eprintln!("vm: fetching package lists of {} suites", LINES.len());
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

    /// The newest kernel of this line.
    pub fn kernel(&self, line: Line) -> Result<Image> {
        let offered = sys::output(self.apt("apt-cache").args(["madison", META_PACKAGE]))?;
        let version = version_in(&offered, line.suite)
            .with_context(|| format!("Debian's {} has no {META_PACKAGE}", line.suite))?;
        let kept = cache()?.join("kernels").join(format!("{}-{version}", line.name));
        let vmlinuz = kept.join("vmlinuz");
        if !vmlinuz.is_file() {
            eprintln!("vm: fetching Linux {version} ({})", line.suite);
            fs::create_dir_all(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
            self.fetch_image(version, &vmlinuz)?;
        }
        Ok(Image { line, vmlinuz })
    }

    /// Follows the dependencies from the named package to the one with the image, and takes it out of there.
    fn fetch_image(&self, version: &str, goal: &Path) -> Result<()> {
        let place = goal.with_file_name("packages");
        let mut package = META_PACKAGE.to_owned();
        for _ in 0..3 {
            let shown = sys::output(self.apt("apt-cache").arg("show").arg(format!("{package}={version}")))?;
            package = image_dependency(&shown)
                .with_context(|| format!("{package} {version} depends on no kernel image"))?
                .to_owned();
            fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
            let word = format!("{package}={version}");
            sys::output(self.apt("apt-get").args(["download", "-q", &word]).current_dir(&place))?;
            let file = only_file(&place)?;
            let list = sys::output(Command::new("dpkg-deb").arg("--contents").arg(&file))?;
            if let Some(member) = vmlinuz_in(&list) {
                extract(&file, member, goal)?;
                return fs::remove_dir_all(&place).context("cannot remove the fetched packages");
            }
            fs::remove_file(&file)?;
        }
        bail!("no package of Linux {version} has a vmlinuz")
    }
}

/// The machine's own Debian mirror.
fn mirror() -> Result<String> {
    let format = "$(ORIGIN) $(COMPONENT) $(LABEL) $(REPO_URI)";
    let targets = sys::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))
    .context("the kernels come from Debian's packages, through apt")?;
    let line = targets.lines().find_map(|line| line.strip_prefix("Debian main Debian "));
    line.map(str::to_owned).context("apt's sources on this machine name no mirror of Debian")
}

/// `package | version | source`: the version that a suite has.
fn version_in<'a>(madison: &'a str, suite: &str) -> Option<&'a str> {
    madison.lines().find_map(|line| {
        let mut fields = line.split('|').map(str::trim);
        let (version, source) = (fields.nth(1)?, fields.next()?);
        source.contains(&format!(" {suite}/")).then_some(version)
    })
}

/// The image among the dependencies of a package.
fn image_dependency(shown: &str) -> Option<&str> {
    let line = shown.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let names: Vec<&str> = line.split([',', '|']).filter_map(|d| d.split_whitespace().next()).collect();
    IMAGE_PACKAGES.iter().find_map(|prefix| names.iter().copied().find(|name| name.starts_with(prefix)))
}

/// The kernel in the listing of a package.
fn vmlinuz_in(contents: &str) -> Option<&str> {
    let paths = contents.lines().filter_map(|line| line.split_whitespace().last());
    paths.into_iter().find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("vmlinuz")))
}

fn extract(package: &Path, member: &str, goal: &Path) -> Result<()> {
    let unpacked = goal.with_extension("part");
    let pipe = "dpkg-deb --fsys-tarfile \"$1\" | tar --extract --to-stdout \"$2\" > \"$3\"";
    let mut command = Command::new("sh");
    sys::run(command.args(["-c", pipe, "sh"]).arg(package).arg(member).arg(&unpacked))?;
    // Whole or not at all: an interrupted run must not leave half a kernel under this name.
    fs::rename(&unpacked, goal).with_context(|| format!("cannot create {}", goal.display()))
}

fn only_file(directory: &Path) -> Result<PathBuf> {
    let first = fs::read_dir(directory)?.next().context("apt-get download brought no file")?;
    Ok(first?.path())
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
    fn the_image_is_found_through_dependencies() {
        let meta =
            "Package: x\nDepends: linux-base-cloud-amd64 (= 7), linux-image-7.2.13+deb14-cloud-amd64 (= 7)\n";
        assert_eq!(image_dependency(meta), Some("linux-image-7.2.13+deb14-cloud-amd64"));
        let image =
            "Depends: dracut | linux-initramfs-tool, linux-binary-7.2.13+deb14-cloud-amd64 (= 7), kmod\n";
        assert_eq!(image_dependency(image), Some("linux-binary-7.2.13+deb14-cloud-amd64"));
        let listing = "-rw-r--r-- root/root 106136 2024-08-10 06:09 ./boot/config-5.10\n\
                       -rw-r--r-- root/root 12141760 2024-08-10 06:09 ./boot/vmlinuz-5.10\n";
        assert_eq!(vmlinuz_in(listing), Some("./boot/vmlinuz-5.10"));
    }
}
