//! What kernel this is.

use std::fs;

use crate::model::KernelFacts;

pub use super::layout::page_size;

/// The running kernel, as a report names it.
pub fn running_kernel() -> KernelFacts {
    let (release, arch) = match nix::sys::utsname::uname() {
        Ok(name) => {
            (name.release().to_string_lossy().into_owned(), name.machine().to_string_lossy().into_owned())
        }
        Err(_) => ("unknown".to_owned(), std::env::consts::ARCH.to_owned()),
    };
    KernelFacts { release, arch, page_size: page_size() }
}

/// The highest thread id plus one, `kernel.pid_max`.
pub fn pid_max() -> u32 {
    // The architecture's upper limit where the sysctl cannot be read.
    const LIMIT: u32 = 4 << 20;
    fs::read_to_string("/proc/sys/kernel/pid_max")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(LIMIT)
}

/// Bytes of the default hugetlb page, 0 if there is none.
pub fn hugetlb_size() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
    kb.and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}

/// What the x86 page tables look like on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// 4, or 5 with LA57 in use.
    pub levels: u64,
    /// Mask of the physical address in an entry. The kernel takes encryption bits out of the width that it shows.
    pub phys_mask: u64,
}

impl Paging {
    /// Of the running machine; `None` on other architectures.
    pub fn of_running_machine() -> Option<Paging> {
        Self::from_cpuinfo(&fs::read_to_string("/proc/cpuinfo").ok()?)
    }

    fn from_cpuinfo(text: &str) -> Option<Paging> {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':').map(str::trim))
        };
        let bits: u32 = value("address sizes")?.split_once(" bits physical")?.0.parse().ok()?;
        if !(32..=52).contains(&bits) {
            return None;
        }
        // The flag is shown only while the kernel uses five levels.
        let levels = if value("flags")?.split(' ').any(|flag| flag == "la57") { 5 } else { 4 };
        Some(Paging { levels, phys_mask: ((1 << bits) - 1) & !0xfff })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_from_cpuinfo() {
        let text = "flags\t\t: fpu vme la57 sse\naddress sizes\t: 52 bits physical, 57 bits virtual\n";
        assert_eq!(Paging::from_cpuinfo(text), Some(Paging { levels: 5, phys_mask: 0x000f_ffff_ffff_f000 }));
        let text = "flags\t\t: fpu vme sse\naddress sizes\t: 48 bits physical, 48 bits virtual\n";
        assert_eq!(Paging::from_cpuinfo(text), Some(Paging { levels: 4, phys_mask: 0x0000_ffff_ffff_f000 }));
        assert_eq!(Paging::from_cpuinfo("processor : 0\n"), None);
    }
}
