//! `/proc/PID/status` and `/proc/PID/stat`: the sizes of a process, and its minor faults.

use procfs::process::Process;
use serde::Serialize;

use super::ProcError;

/// What the kernel keeps for the process as a whole; sizes in kB, as status prints them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `VmSize`: all mappings, in memory or not; `VSZ` of ps.
    pub vm_size_kb: u64,
    /// `VmRSS`: pages in memory, shared or not; `RSS` of ps.
    pub vm_rss_kb: u64,
    /// `RssAnon`: of these, anonymous ones.
    pub rss_anon_kb: u64,
    /// `VmPTE`: page tables.
    pub vm_pte_kb: u64,
    /// `VmData`: private writable mappings.
    pub vm_data_kb: u64,
    /// Page faults that needed no I/O, of all threads so far (`min_flt`).
    pub minor_faults: u64,
}

impl Status {
    /// Reads both files.
    ///
    /// # Errors
    /// The process is gone, or the files are not understood.
    pub fn read(pid: u32) -> Result<Status, ProcError> {
        let failed = |source| ProcError::Status { pid, source };
        let process = Process::new(pid.cast_signed()).map_err(failed)?;
        let (status, stat) = (process.status().map_err(failed)?, process.stat().map_err(failed)?);
        let kb = Option::unwrap_or_default;
        Ok(Status {
            vm_size_kb: kb(status.vmsize),
            vm_rss_kb: kb(status.vmrss),
            rss_anon_kb: kb(status.rssanon),
            vm_pte_kb: kb(status.vmpte),
            vm_data_kb: kb(status.vmdata),
            minor_faults: stat.minflt,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_sizes_and_faults() {
        let status = Status::read(std::process::id()).unwrap();
        assert!(status.vm_size_kb > status.vm_rss_kb && status.vm_rss_kb >= status.rss_anon_kb);
        assert!(status.rss_anon_kb > 0 && status.vm_pte_kb > 0 && status.minor_faults > 0);
    }
}
