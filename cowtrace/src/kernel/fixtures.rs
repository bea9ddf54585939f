//! Kernels that `cargo xtask freeze` has kept, for tests of all that depends on a kernel.
//!
//! ```ignore
//! for kernel in fixtures::all() {
//!     let layout = KernelLayout::from_btf(&kernel.btf());
//!     …
//! }
//! ```

mod prototypes;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// A frozen kernel. What it does not have, or did not let be read, is absent.
#[derive(Clone, Debug)]
pub(crate) struct FrozenKernel {
    /// What `uname -r` said, and the name of its directory.
    pub(crate) release: String,
    /// What is known of it as a whole.
    pub(crate) facts: Facts,
    directory: PathBuf,
}

/// The content of `kernel.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    /// What `uname -v` said: of Debian's, with the package's version.
    pub(crate) version: String,
    /// What `uname -m` said.
    pub(crate) arch: String,
    /// Bytes per page.
    pub(crate) page_size: u64,
    /// The preemption models that it can be switched to, the one in use in brackets.
    pub(crate) preemption: Option<String>,
}

impl FrozenKernel {
    /// Major and minor version.
    pub(crate) fn version(&self) -> (u32, u32) {
        let mut numbers = self.release.split(['.', '-', '+']).map_while(|number| number.parse().ok());
        let version = numbers.next().zip(numbers.next());
        version.unwrap_or_else(|| panic!("{} is no kernel release", self.release))
    }

    /// Whether its processor is x86-64.
    pub(crate) fn is_x86_64(&self) -> bool {
        self.facts.arch == "x86_64"
    }

    /// The excerpt of its types: a BTF file as any other.
    pub(crate) fn btf(&self) -> PathBuf {
        self.directory.join("btf")
    }

    /// The excerpt of `/proc/kallsyms`: what cowtrace looks for and neighbours, as root sees them.
    pub(crate) fn symbols(&self) -> String {
        read(&self.directory.join("symbols.txt"))
    }

    /// Whether kallsyms lists a function under just this name: where it was not inlined, nor a variant of it made.
    pub(crate) fn has_symbol(&self, function: &str) -> bool {
        let listed = self.symbols().lines().any(|line| line.split(' ').nth(2) == Some(function));
        let absent = read(&self.directory.join("absent.txt")).lines().any(|name| name == function);
        assert!(listed || absent, "{function} was not looked for in {}: see xtask's wanted.rs", self.release);
        listed
    }

    /// Those of the functions that cowtrace looks for which ftrace can be attached to; `None` if it did not tell.
    pub(crate) fn traceable(&self) -> Option<Vec<String>> {
        let path = self.directory.join("traceable.txt");
        path.exists().then(|| read(&path).lines().map(str::to_owned).collect())
    }

    /// The description of a tracepoint, as in `kmem/rss_stat`, if it has it.
    pub(crate) fn format(&self, tracepoint: &str) -> Option<String> {
        let path = self.directory.join("formats").join(tracepoint);
        path.exists().then(|| read(&path))
    }

    /// The types of a function's parameters, as C writes them; `None` if BTF does not have it.
    pub(crate) fn parameters(&self, function: &str) -> Option<Vec<String>> {
        prototypes::parameters(self, function)
    }

    /// What there is to watch, a line for each function and tracepoint of interest.
    pub(crate) fn functions(&self) -> String {
        prototypes::of(self)
    }

    /// Whether it has a tracepoint of this name in any category.
    pub(crate) fn has_tracepoint(&self, name: &str) -> bool {
        let categories = fs::read_dir(self.directory.join("formats")).unwrap();
        categories.into_iter().any(|category| category.unwrap().path().join(name).exists())
    }

    /// Holds what was found out about this kernel against `snapshots/…__{what}@{release}.snap`.
    pub(crate) fn assert_snapshot(&self, what: &str, found: &str) {
        insta::with_settings!({ snapshot_suffix => &self.release, omit_expression => true }, {
            insta::assert_snapshot!(what, found);
        });
    }
}

/// All of them, oldest first, x86-64 before arm64.
pub(crate) fn all() -> Vec<FrozenKernel> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kernels");
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut kernels: Vec<FrozenKernel> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|directory| FrozenKernel {
            release: directory.file_name().unwrap().to_string_lossy().into_owned(),
            facts: serde_json::from_str(&read(&directory.join("kernel.json"))).unwrap(),
            directory,
        })
        .collect();
    assert!(!kernels.is_empty(), "{} has no kernels", directory.display());
    kernels.sort_by_key(|kernel| (!kernel.is_x86_64(), kernel.version(), kernel.release.clone()));
    kernels
}

/// The x86-64 kernel of this line, as in "6.12".
pub(crate) fn named(line: &str) -> FrozenKernel {
    let mut kernels = all().into_iter().filter(FrozenKernel::is_x86_64);
    let found = kernels.find(|kernel| {
        let (major, minor) = kernel.version();
        format!("{major}.{minor}") == line
    });
    found.unwrap_or_else(|| panic!("no frozen kernel {line}"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
