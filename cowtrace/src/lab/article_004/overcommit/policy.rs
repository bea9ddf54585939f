//! What the kernel grants: `vm.overcommit_memory`, and the memory that there is.

use std::fs;

use anyhow::Context as _;
use procfs::{Current, Meminfo};

use crate::lab::{report::Figures, size::Bytes};

/// The default policy: refuse what obviously cannot be met.
pub(super) const HEURISTIC: u64 = 0;
const STRICT: u8 = 2;
const FILE: &str = "/proc/sys/vm/overcommit_memory";
/// Beyond all memory and swap.
const BEYOND: u64 = 1 << 30;

/// How this machine is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// `vm.overcommit_memory`: 0, 1 or 2.
    pub setting: u8,
    /// Memory and swap together, bytes.
    pub total: u64,
    /// `CommitLimit`, bytes: what policy 2 grants in all.
    limit: u64,
    /// `Committed_AS`, bytes: granted so far.
    committed: u64,
}

impl Policy {
    /// As it is now.
    pub fn read() -> anyhow::Result<Policy> {
        let text = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
        let setting = text.trim().parse().with_context(|| format!("{FILE} has {text:?}, and no number"))?;
        let memory = Meminfo::current().context("cannot read /proc/meminfo")?;
        Ok(Policy {
            setting,
            total: memory.mem_total + memory.swap_total,
            limit: memory.commit_limit.unwrap_or(0),
            committed: memory.committed_as,
        })
    }

    /// Half of what there is, in whole MiB.
    pub fn half(&self) -> u64 {
        (self.total / 2) >> 20 << 20
    }

    /// More than there is.
    pub fn too_much(&self) -> u64 {
        self.total + BEYOND
    }

    /// The setting, if it is not the default.
    pub fn other_than_default(&self) -> Option<String> {
        (u64::from(self.setting) != HEURISTIC)
            .then(|| format!("vm.overcommit_memory is {} here", self.setting))
    }

    /// Why a single request for this much is not granted here, if it is not.
    pub fn refuses(&self, bytes: u64) -> Option<String> {
        match self.setting {
            0 if bytes > self.total => Some(format!(
                "vm.overcommit_memory is 0, and a request for {} is more than all memory and swap, {}",
                Bytes(bytes),
                Bytes(self.total)
            )),
            STRICT if self.committed + bytes > self.limit => self.strict(),
            _ => None,
        }
    }

    /// Why requests that are more than there is when taken together are not granted here, if they are not.
    pub fn refuses_sums(&self) -> Option<String> {
        if self.setting == STRICT { self.strict() } else { None }
    }

    fn strict(&self) -> Option<String> {
        Some(format!(
            "vm.overcommit_memory is 2, which grants {} in all (CommitLimit), of which {} are taken",
            Bytes(self.limit),
            Bytes(self.committed)
        ))
    }

    /// The figures.
    pub fn table(&self) -> Figures {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        Figures {
            title: "What this machine grants".to_owned(),
            columns: ["figure", "value"].map(str::to_owned).into(),
            rows: vec![
                row("vm.overcommit_memory", self.setting.to_string()),
                row("memory and swap", Bytes(self.total).to_string()),
                row("CommitLimit (kept to by policy 2 only)", Bytes(self.limit).to_string()),
                row("Committed_AS before the experiment", Bytes(self.committed).to_string()),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn policy(setting: u8) -> Policy {
        Policy { setting, total: 24 * GIB, limit: 12 * GIB, committed: 9 * GIB }
    }

    #[test]
    fn a_refusal_names_the_setting_that_makes_it() {
        assert_eq!(policy(0).refuses(4 * GIB), None);
        assert_eq!(policy(1).refuses(400 * GIB), None);
        let refusal = policy(0).refuses(25 * GIB).unwrap();
        assert!(refusal.contains("is 0") && refusal.contains("24G"), "{refusal}");
        let refusal = policy(2).refuses(4 * GIB).unwrap();
        assert!(refusal.contains("is 2") && refusal.contains("12G"), "{refusal}");
        assert_eq!(policy(2).refuses(2 * GIB), None);
    }

    #[test]
    fn sums_are_refused_by_the_strict_policy_only() {
        let refused = [0, 1, 2].map(|setting| policy(setting).refuses_sums().is_some());
        assert_eq!(refused, [false, false, true]);
        assert_eq!(policy(0).other_than_default(), None);
        assert_eq!(policy(1).other_than_default().as_deref(), Some("vm.overcommit_memory is 1 here"));
        assert!(3 * policy(0).half() > policy(0).total && policy(0).refuses(policy(0).half()).is_none());
        assert!(policy(0).refuses(policy(0).too_much()).is_some());
    }
}
