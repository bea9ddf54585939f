//! Whether tracefs is mounted: others need it, cowtrace does not.

use std::fs;

use serde::Serialize;

use super::finding::{Finding, State};

/// Where the kernel's tracing files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TracefsFact {
    /// All places at which it is mounted; `None` if that is not known.
    pub mounted_at: Option<Vec<String>>,
}

impl TracefsFact {
    pub(super) fn gather() -> TracefsFact {
        Self::from_mountinfo(fs::read_to_string("/proc/self/mountinfo").ok().as_deref())
    }

    pub(super) fn from_mountinfo(mountinfo: Option<&str>) -> TracefsFact {
        // Optional fields come before the lone dash, the type of the file system after it.
        let place = |line: &str| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let is_tracefs = filesystem.split(' ').next() == Some("tracefs");
            is_tracefs.then(|| mount.split(' ').nth(4).map(str::to_owned)).flatten()
        };
        TracefsFact { mounted_at: mountinfo.map(|text| text.lines().filter_map(place).collect()) }
    }

    pub(super) fn finding(&self) -> Finding {
        let subject = "tracefs";
        match self.mounted_at.as_deref() {
            Some([place, ..]) => {
                Finding::new(subject, State::Good, format!("mounted at {place}; cowtrace works without"))
            }
            Some([]) => Finding::new(subject, State::Unneeded, "not mounted; cowtrace works without"),
            None => Finding::new(subject, State::Unneeded, "not known; cowtrace works without"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "24 1 0:21 / /sys rw,relatime shared:7 - sysfs sysfs rw\n\
        31 24 0:12 / /sys/kernel/tracing rw,nosuid shared:11 - tracefs tracefs rw\n\
        35 24 0:7 / /sys/kernel/debug rw - debugfs debugfs rw\n";

    #[test]
    fn mounts_with_and_without_optional_fields() {
        let fact = TracefsFact::from_mountinfo(Some(MOUNTINFO));
        assert_eq!(fact.mounted_at, Some(vec!["/sys/kernel/tracing".to_owned()]));
        assert_eq!(fact.finding().state, State::Good);
        let without =
            MOUNTINFO.lines().filter(|line| !line.contains("tracefs")).collect::<Vec<_>>().join("\n");
        let fact = TracefsFact::from_mountinfo(Some(&without));
        assert_eq!((fact.mounted_at.clone(), fact.finding().state), (Some(vec![]), State::Unneeded));
        assert_eq!(TracefsFact::from_mountinfo(None).mounted_at, None);
    }
}
