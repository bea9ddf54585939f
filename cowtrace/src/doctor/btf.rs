//! The kernel's type information.

use std::fs;

use serde::Serialize;

use super::finding::{Finding, State};

/// Where it lies.
pub(super) const PATH: &str = "/sys/kernel/btf/vmlinux";

/// BTF of the kernel itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BtfFact {
    /// Its size; `None` if there is none.
    pub bytes: Option<u64>,
    /// Why it cannot be used; `None`: it can.
    pub answer: Option<String>,
}

impl BtfFact {
    /// With what came of opening it.
    pub(super) fn gather(opened: Result<(), String>) -> BtfFact {
        Self::from_parts(fs::metadata(PATH).ok().map(|file| file.len()), opened)
    }

    pub(super) fn from_parts(bytes: Option<u64>, opened: Result<(), String>) -> BtfFact {
        BtfFact { bytes, answer: opened.err() }
    }

    pub(super) fn finding(&self) -> Finding {
        let subject = "types (BTF)";
        match &self.answer {
            None => {
                let size = self.bytes.map_or_else(String::new, |bytes| {
                    format!(", {:.1} MiB", bytes as f64 / f64::from(1 << 20))
                });
                Finding::new(subject, State::Good, format!("{PATH}{size}"))
            }
            Some(answer) => Finding::new(subject, State::Missing, format!("{PATH}: {answer}")).but(
                "nothing can be traced: where this kernel keeps what cowtrace reads is not known",
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all big distributions have it); in a container, \
                 give it the host's /sys",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_absent_and_damaged() {
        let there = BtfFact::from_parts(Some(5 << 20), Ok(())).finding();
        assert_eq!((there.state, there.found.as_str()), (State::Good, "/sys/kernel/btf/vmlinux, 5.0 MiB"));
        for (bytes, answer) in [(None, "No such file or directory"), (Some(0), "failed to fill whole buffer")]
        {
            let finding = BtfFact::from_parts(bytes, Err(answer.to_owned())).finding();
            assert_eq!(finding.state, State::Missing);
            assert!(finding.found.contains(answer) && finding.advice.is_some(), "{finding:?}");
        }
    }
}
