//! The kernel's accounting of copies: whether it can be had here, and switched on while the command runs.

use anyhow::Context as _;

use crate::{kernel::DelayAccounting, proc::TaskStatsLayout};

/// Accounting during a run. Dropped, it is as before.
#[derive(Debug)]
pub(super) struct Accounting {
    held: Option<DelayAccounting>,
    why_not: Option<String>,
}

impl Accounting {
    /// Switches it on for all tasks that start from now on.
    ///
    /// # Errors
    /// The kernel has it, and refuses to switch it on.
    pub fn switch_on(layout: TaskStatsLayout) -> anyhow::Result<Accounting> {
        if let Some(why) = why_not(layout, DelayAccounting::exists()) {
            return Ok(Accounting { held: None, why_not: Some(why) });
        }
        let held = DelayAccounting::hold().context(
            "the kernel's own count of copies needs kernel.task_delayacct=1, and that cannot be set; run as root, where \
             /proc/sys and /run can be written",
        )?;
        Ok(Accounting { held: Some(held), why_not: None })
    }

    /// Why there is no count of copies to compare with, if there is none.
    pub fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// Whether somebody has switched it off meanwhile.
    pub fn was_switched_off(&self) -> bool {
        self.held.as_ref().is_some_and(DelayAccounting::was_switched_off)
    }
}

fn why_not(layout: TaskStatsLayout, has_switch: bool) -> Option<String> {
    let version = layout.version;
    if !layout.wpcopy {
        return Some(format!(
            "no oracle: taskstats of this kernel (version {version}) has no wpcopy_count, which came with Linux 5.19; \
             there is nothing that kernel.task_delayacct (since 5.14; delay accounting is always on before) could add"
        ));
    }
    (!has_switch).then(|| {
        "no oracle: this kernel has no kernel.task_delayacct: it was built without CONFIG_TASK_DELAY_ACCT, and counts \
         no copies"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(version: u16, wpcopy: bool) -> TaskStatsLayout {
        TaskStatsLayout { version, wpcopy, process: wpcopy, in_place: true }
    }

    #[test]
    fn a_missing_oracle_has_its_reason() {
        assert_eq!(why_not(layout(16, true), true), None);
        let words = |layout, has_switch| why_not(layout, has_switch).unwrap();
        assert!(words(layout(10, false), false).contains("5.19"));
        assert!(words(layout(16, true), false).contains("CONFIG_TASK_DELAY_ACCT"));
    }
}
