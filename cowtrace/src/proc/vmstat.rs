//! `/proc/vmstat`: the kernel's counts of the whole machine since it was started.

use std::fs;

/// One of its counts; `None` if this kernel does not have it.
pub fn vmstat(name: &str) -> Option<u64> {
    count_in(&fs::read_to_string("/proc/vmstat").ok()?, name)
}

fn count_in(vmstat: &str, name: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_by_its_whole_name() {
        let text = "ksm_swpin_copy 7\ncow_ksm 6600\ncow_ksm_other 1\n";
        assert_eq!([count_in(text, "cow_ksm"), count_in(text, "cow")], [Some(6600), None]);
    }
}
