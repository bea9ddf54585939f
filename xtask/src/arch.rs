//! Processor architectures, and what compilers, Debian and the kernel call them.

use std::{env::consts, fmt, str::FromStr};

use anyhow::{Result, bail};

/// An architecture that cowtrace is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// This machine's; `None` where it is none of these.
    pub fn host() -> Option<Arch> {
        Arch::ALL.into_iter().find(|arch| arch.name() == consts::ARCH)
    }

    /// The compiler's and `uname -m`'s name.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// Rust's target.
    pub fn target(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The prefix of GNU's compilers, and the directory of Debian's libraries.
    pub fn gnu(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-linux-gnu",
            Arch::Aarch64 => "aarch64-linux-gnu",
        }
    }

    /// The dynamic linker, below the root.
    pub fn linker(self) -> &'static str {
        match self {
            Arch::X86_64 => "lib64/ld-linux-x86-64.so.2",
            Arch::Aarch64 => "lib/ld-linux-aarch64.so.1",
        }
    }

    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// Debian's packages with a C compiler and a C library that build for it elsewhere.
    pub fn cross_packages(self) -> [&'static str; 2] {
        match self {
            Arch::X86_64 => ["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"],
            Arch::Aarch64 => ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = anyhow::Error;

    /// From Rust's target, or the architecture in it alone.
    fn from_str(name: &str) -> Result<Arch> {
        let found = Arch::ALL.into_iter().find(|arch| name == arch.target() || name == arch.name());
        match found {
            Some(arch) => Ok(arch),
            None => bail!("the targets are {}", Arch::ALL.map(Arch::target).join(" and ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_known_by_its_triple_or_its_architecture() {
        assert_eq!("aarch64-unknown-linux-gnu".parse::<Arch>().ok(), Some(Arch::Aarch64));
        assert_eq!("x86_64".parse::<Arch>().ok(), Some(Arch::X86_64));
        assert!("aarch64-unknown-linux-musl".parse::<Arch>().is_err());
    }
}
