//! Whether the kernel counts copies itself, for those who want to compare.

use std::fs;

use serde::Serialize;

use super::finding::{Finding, State};
use crate::proc::{ProcError, wpcopy_count};

/// taskstats and delay accounting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountingFact {
    /// Whether taskstats of this kernel have a count of copies; `None` if they cannot be read.
    pub has_wpcopy_count: Option<bool>,
    /// Why they cannot be read.
    pub answer: Option<String>,
    /// `kernel.task_delayacct`: whether it counts for tasks that start now; `None` before Linux 5.14.
    pub switched_on: Option<bool>,
}

impl AccountingFact {
    pub(super) fn gather() -> AccountingFact {
        let setting = fs::read_to_string("/proc/sys/kernel/task_delayacct").ok();
        Self::from_parts(wpcopy_count(std::process::id()), setting.as_deref())
    }

    pub(super) fn from_parts(count: Result<Option<u64>, ProcError>, setting: Option<&str>) -> AccountingFact {
        let (has_wpcopy_count, answer) = match count {
            Ok(count) => (Some(count.is_some()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let switched_on = setting.and_then(|text| text.trim().parse::<u8>().ok()).map(|value| value != 0);
        AccountingFact { has_wpcopy_count, answer, switched_on }
    }

    pub(super) fn finding(&self) -> Finding {
        let subject = "kernel's count";
        let lost =
            "counts cannot be held against the kernel's own (`cowtrace verify`); counting does not need it";
        match (&self.answer, self.has_wpcopy_count) {
            (None, Some(true)) => {
                let switch = match self.switched_on {
                    Some(true) => "kernel.task_delayacct is on",
                    Some(false) => "kernel.task_delayacct is off until `cowtrace verify` turns it on",
                    None => "there is no kernel.task_delayacct",
                };
                Finding::new(subject, State::Good, format!("taskstats have wpcopy_count; {switch}"))
            }
            (Some(answer), _) => Finding::new(subject, State::Limited, answer.clone()).but(
                lost,
                "run as root or with CAP_NET_ADMIN, on a kernel built with CONFIG_TASK_DELAY_ACCT=y",
            ),
            (None, _) => Finding::new(subject, State::Limited, "taskstats have no wpcopy_count")
                .but(lost, "Linux 5.19 and later have it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn kernels_with_the_count_without_it_and_those_that_refuse() {
        let on = AccountingFact::from_parts(Ok(Some(0)), Some("1\n"));
        assert_eq!((on.switched_on, on.finding().state), (Some(true), State::Good));
        let off = AccountingFact::from_parts(Ok(Some(0)), Some("0\n")).finding();
        assert!(off.state == State::Good && off.found.contains("off until"));
        let old = AccountingFact::from_parts(Ok(None), None).finding();
        assert!(old.state == State::Limited && old.advice.unwrap().contains("5.19"));
        let refused = ProcError::TaskStats { pid: 1, source: io::Error::from_raw_os_error(libc::EPERM) };
        assert_eq!(AccountingFact::from_parts(Err(refused), Some("0")).finding().state, State::Limited);
    }
}
