//! `/proc/PID/smaps`: one [`Vma`] per mapping.

use std::{fs::File, io::BufReader};

use procfs::{
    FromBufRead,
    process::{MMPermissions, MMapPath, MemoryMap, MemoryMaps, VmFlags},
};
use serde::Serialize;

use super::ProcError;

/// A mapping and what smaps says about its pages, in kB as smaps prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Vma {
    /// First address.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// First address after it.
    #[serde(serialize_with = "hex")]
    pub end: u64,
    /// As in maps: `rw-p`.
    pub perms: String,
    /// As in maps; empty for an anonymous mapping.
    pub name: String,
    /// Size of the mapping.
    pub size_kb: u64,
    /// Resident.
    pub rss_kb: u64,
    /// Resident, each page divided by the number of its mappings.
    pub pss_kb: u64,
    /// Mapped elsewhere too, not modified.
    pub shared_clean_kb: u64,
    /// Mapped elsewhere too, modified.
    pub shared_dirty_kb: u64,
    /// Mapped only here, not modified.
    pub private_clean_kb: u64,
    /// Mapped only here, modified.
    pub private_dirty_kb: u64,
    /// Accessed since the kernel last asked (`Referenced`).
    pub referenced_kb: u64,
    /// Not from a file.
    pub anonymous_kb: u64,
    /// Of [`Self::anonymous_kb`]: mapped as whole huge pages.
    pub anon_huge_kb: u64,
    /// Swapped out.
    pub swap_kb: u64,
    /// hugetlb pages that others map as well; in none of the figures above.
    pub shared_hugetlb_kb: u64,
    /// hugetlb pages that are mapped only here; in none of the figures above.
    pub private_hugetlb_kb: u64,
    /// Of [`Self::private_dirty_kb`]: page-cache pages, which are dirty because the file is, not because of a
    /// copy on write. From pagemap; [`super::Snapshot`] fills it in.
    pub cache_private_dirty_kb: u64,
    /// Not copied at fork: shared mapping, or `MADV_DONTFORK` or `MADV_WIPEONFORK`.
    #[serde(skip)]
    pub lost_at_fork: bool,
    /// Has ordinary pages of its own: a private mapping, neither hugetlb nor a device's or the kernel's
    /// pages.
    #[serde(skip)]
    pub ordinary: bool,
    /// KSM may merge its pages.
    #[serde(skip)]
    pub mergeable: bool,
}

fn hex<S: serde::Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#x}"))
}

impl Vma {
    /// The name, or what an anonymous mapping is called.
    pub fn label(&self) -> &str {
        if self.name.is_empty() { "anonymous" } else { &self.name }
    }

    /// Whether this address is inside.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    fn new(map: &MemoryMap) -> Vma {
        let kb = |key: &str| map.extension.map.get(key).map_or(0, |bytes| bytes / 1024);
        let flags = map.extension.vm_flags;
        let private = map.perms.contains(MMPermissions::PRIVATE);
        let special = VmFlags::HT | VmFlags::PF | VmFlags::MM | VmFlags::IO;
        Vma {
            start: map.address.0,
            end: map.address.1,
            perms: perms(map.perms),
            name: name(&map.pathname),
            size_kb: kb("Size"),
            rss_kb: kb("Rss"),
            pss_kb: kb("Pss"),
            shared_clean_kb: kb("Shared_Clean"),
            shared_dirty_kb: kb("Shared_Dirty"),
            private_clean_kb: kb("Private_Clean"),
            private_dirty_kb: kb("Private_Dirty"),
            referenced_kb: kb("Referenced"),
            anonymous_kb: kb("Anonymous"),
            anon_huge_kb: kb("AnonHugePages"),
            swap_kb: kb("Swap"),
            shared_hugetlb_kb: kb("Shared_Hugetlb"),
            private_hugetlb_kb: kb("Private_Hugetlb"),
            cache_private_dirty_kb: 0,
            lost_at_fork: !private || flags.intersects(VmFlags::DC | VmFlags::WF),
            ordinary: private && !flags.intersects(special),
            mergeable: flags.contains(VmFlags::MG),
        }
    }
}

/// The mappings of a process, by address.
///
/// # Errors
/// The process is gone, smaps may not be read, or is not understood.
pub fn read_smaps(pid: u32) -> Result<Vec<Vma>, ProcError> {
    let file = File::open(format!("/proc/{pid}/smaps")).map_err(|source| ProcError::Process {
        pid,
        file: "smaps",
        source,
    })?;
    let maps = MemoryMaps::from_buf_read(BufReader::with_capacity(1 << 16, file))
        .map_err(|source| ProcError::Smaps { pid, source })?;
    Ok(maps.0.iter().map(Vma::new).collect())
}

/// As maps prints them.
pub(super) fn perms(perms: MMPermissions) -> String {
    let letter = |flag, yes| if perms.contains(flag) { yes } else { '-' };
    [
        letter(MMPermissions::READ, 'r'),
        letter(MMPermissions::WRITE, 'w'),
        letter(MMPermissions::EXECUTE, 'x'),
        if perms.contains(MMPermissions::PRIVATE) { 'p' } else { 's' },
    ]
    .iter()
    .collect()
}

/// The name as maps prints it: procfs takes it apart.
pub(super) fn name(path: &MMapPath) -> String {
    match path {
        MMapPath::Path(path) => path.to_string_lossy().into_owned(),
        MMapPath::Heap => "[heap]".into(),
        MMapPath::Stack => "[stack]".into(),
        MMapPath::TStack(tid) => format!("[stack:{tid}]"),
        MMapPath::Vdso => "[vdso]".into(),
        MMapPath::Vvar => "[vvar]".into(),
        MMapPath::Vsyscall => "[vsyscall]".into(),
        MMapPath::Rollup => "[rollup]".into(),
        MMapPath::Anonymous => String::new(),
        MMapPath::Vsys(key) => format!("/SYSV{key:08x}"),
        MMapPath::Other(name) => format!("[{name}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
55d0c1a00000-55d0c1a21000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
KernelPageSize:        4 kB
Rss:                  68 kB
Pss:                  34 kB
Pss_Dirty:            34 kB
Shared_Clean:          0 kB
Shared_Dirty:         68 kB
Private_Clean:         0 kB
Private_Dirty:         0 kB
Anonymous:            68 kB
AnonHugePages:        64 kB
Swap:                  0 kB
THPeligible:           0
VmFlags: rd wr mr mw me ac wf sd
7f24a1c34000-7f24a1c37000 rw-p 00000000 00:00 0\x20
Size:                 12 kB
Rss:                   4 kB
VmFlags: rd wr mr mw me ac sd
7f24a1c37000-7f24a1c5d000 r--s 00001000 fe:00 326279                     /usr/lib/a file.so
Size:                152 kB
Rss:                 148 kB
VmFlags: rd mr mw me sh
7f24a1e00000-7f24a2000000 rw-p 00000000 00:0f 12                         /anon_hugepage (deleted)
Size:               2048 kB
Rss:                   0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:    2048 kB
VmFlags: rd wr mr mw me ht
7f24a2000000-7f24a2001000 rw-p 00000000 00:00 0                          [anon:arena 1]
Size:                  4 kB
VmFlags: rd wr mr mw me ac mg
";

    fn vmas() -> Vec<Vma> {
        let maps = MemoryMaps::from_buf_read(TEXT.as_bytes()).unwrap();
        maps.0.iter().map(Vma::new).collect()
    }

    #[test]
    fn figures_are_those_of_smaps_in_kb() {
        let heap = &vmas()[0];
        assert_eq!(heap.name, "[heap]");
        assert_eq!((heap.start, heap.end), (0x55d0_c1a0_0000, 0x55d0_c1a2_1000));
        assert_eq!((heap.size_kb, heap.rss_kb, heap.pss_kb), (132, 68, 34));
        assert_eq!((heap.shared_dirty_kb, heap.private_dirty_kb, heap.anonymous_kb), (68, 0, 68));
        assert_eq!(heap.anon_huge_kb, 64);
        let huge = &vmas()[3];
        assert_eq!((huge.rss_kb, huge.shared_hugetlb_kb, huge.private_hugetlb_kb), (0, 0, 2048));
    }

    #[test]
    fn names_are_those_of_maps() {
        let names: Vec<String> = vmas().into_iter().map(|vma| vma.name).collect();
        assert_eq!(names, ["[heap]", "", "/usr/lib/a file.so", "/anon_hugepage (deleted)", "[anon:arena 1]"]);
    }

    #[test]
    fn flags_say_what_fork_does_and_which_pages_are_ordinary() {
        let flags: Vec<_> = vmas().iter().map(|vma| (vma.lost_at_fork, vma.ordinary)).collect();
        assert_eq!(flags, [(true, true), (false, true), (true, false), (false, false), (false, true)]);
        let mergeable: Vec<_> = vmas().iter().map(|vma| vma.mergeable).collect();
        assert_eq!(mergeable, [false, false, false, false, true]);
        let perms: Vec<_> = vmas().iter().map(|vma| vma.perms.clone()).collect();
        assert_eq!(perms, ["rw-p", "rw-p", "r--s", "rw-p", "rw-p"]);
    }
}
