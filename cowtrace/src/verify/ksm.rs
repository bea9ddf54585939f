//! Copies of merged pages, against vmstat's count of the whole machine.

use super::report::{Finding, Oracle, OracleName};
use crate::{model::Process, proc::vmstat};

const COVERS: &str = "copies of pages merged by KSM, on the whole machine: at least those of the command";

/// vmstat's count now; `None` if this kernel has none.
pub(super) fn count() -> Option<u64> {
    vmstat("cow_ksm")
}

/// What the count before the run and after it says.
pub(super) fn oracle(before: Option<u64>, after: Option<u64>, processes: &[Process]) -> Oracle {
    let counted: Option<u64> = processes.iter().map(|process| process.faults.ksm).sum();
    let by_kernel = before.zip(after).and_then(|(before, after)| after.checked_sub(before));
    let unavailable = |why: &str| Oracle {
        name: OracleName::CowKsm,
        available: false,
        why_not: Some(why.to_owned()),
        covers: COVERS,
        lost_records: 0,
        finding: None,
        explanation: None,
    };
    let Some(by_kernel) = by_kernel else {
        return unavailable("vmstat of this kernel has no cow_ksm (Linux 5.19, CONFIG_KSM)");
    };
    let Some(counted) = counted else {
        return unavailable("the backend does not tell copies of merged pages from others");
    };
    let others = match by_kernel.saturating_sub(counted) {
        0 => String::new(),
        more => format!("; the {more} others are of processes that were not traced, or lost a race"),
    };
    Oracle {
        name: OracleName::CowKsm,
        available: true,
        why_not: None,
        covers: COVERS,
        lost_records: 0,
        finding: Some(if counted <= by_kernel { Finding::Holds } else { Finding::Differs }),
        explanation: Some(format!(
            "{counted} counted, {by_kernel} by the kernel on the whole machine{others}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::process, *};

    fn with_ksm(ksm: Option<u64>) -> Process {
        let mut process = process(1, 0);
        process.faults.ksm = ksm;
        process
    }

    #[test]
    fn more_than_the_machine_has_made_is_wrong() {
        let ours = [with_ksm(Some(3)), with_ksm(Some(4))];
        let finding = |before, after| oracle(Some(before), Some(after), &ours).finding;
        assert_eq!(finding(10, 17), Some(Finding::Holds));
        assert_eq!(finding(10, 16), Some(Finding::Differs));
        let more = oracle(Some(10), Some(30), &ours);
        assert_eq!(more.finding, Some(Finding::Holds));
        assert!(more.explanation.unwrap().contains("the 13 others"));
    }

    #[test]
    fn without_either_count_there_is_no_oracle() {
        assert!(!oracle(None, None, &[with_ksm(Some(1))]).available);
        let unknown = oracle(Some(1), Some(1), &[with_ksm(None)]);
        assert!(unknown.why_not.unwrap().contains("backend"));
    }
}
