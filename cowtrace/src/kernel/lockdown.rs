//! Kernel lockdown: whether the kernel lets privileged users read its memory.

use std::{fs, io};

use serde::Serialize;

/// Where a kernel with the lockdown module tells its mode, if securityfs is mounted.
pub const LOCKDOWN_FILE: &str = "/sys/kernel/security/lockdown";

/// The mode in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    /// Not locked down.
    None,
    /// What would change the kernel is refused (Secure Boot brings this); tracing is not.
    Integrity,
    /// What would read the kernel's memory is refused as well.
    Confidentiality,
}

impl Lockdown {
    /// Of the running kernel; `None` if the file is not understood.
    ///
    /// # Errors
    /// The file cannot be read: the kernel has no lockdown, or securityfs is not mounted.
    pub fn of_running_kernel() -> io::Result<Option<Lockdown>> {
        Ok(Self::from_text(&fs::read_to_string(LOCKDOWN_FILE)?))
    }

    /// From the list of modes, with the one in force in brackets.
    pub fn from_text(text: &str) -> Option<Lockdown> {
        let (_, rest) = text.split_once('[')?;
        match rest.split_once(']')?.0 {
            "none" => Some(Lockdown::None),
            "integrity" => Some(Lockdown::Integrity),
            "confidentiality" => Some(Lockdown::Confidentiality),
            _ => None,
        }
    }

    /// As the kernel spells it.
    pub fn name(self) -> &'static str {
        match self {
            Lockdown::None => "none",
            Lockdown::Integrity => "integrity",
            Lockdown::Confidentiality => "confidentiality",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_brackets_is_in_force() {
        let modes = [
            "[none] integrity confidentiality\n",
            "none [integrity] confidentiality\n",
            "none integrity [confidentiality]\n",
        ];
        let expected = [Lockdown::None, Lockdown::Integrity, Lockdown::Confidentiality].map(Some);
        assert_eq!(modes.map(Lockdown::from_text), expected);
        assert_eq!(["", "none integrity\n", "[total]\n"].map(Lockdown::from_text), [None; 3]);
    }
}
