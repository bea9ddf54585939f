//! The memory of a process at one moment: its mappings, and the frames of its anonymous pages.

use super::{Entry, FrameFlags, Pagemap, ProcError, Vma, read_smaps};

/// An anonymous page in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnonPage {
    /// Page number: address / page size.
    pub page: u64,
    /// Frame number; processes that share the page have the same.
    pub frame: u64,
    /// Mapped exactly once in the whole machine.
    pub mapped_once: bool,
    /// Merged with others of the same content by KSM.
    pub merged: bool,
}

/// What `/proc` says about a process that stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The process.
    pub pid: u32,
    /// Bytes of a page.
    pub page_size: u64,
    /// Its mappings, by address.
    pub vmas: Vec<Vma>,
    /// Anonymous pages of its private mappings, by page number. The zero page is not among them.
    pub anon: Vec<AnonPage>,
}

impl Snapshot {
    /// Reads smaps and pagemap. The process must stand still meanwhile, or the two will not agree.
    ///
    /// # Errors
    /// The process is gone, or `/proc` may not be read.
    pub fn take(pid: u32) -> Result<Snapshot, ProcError> {
        let page_size = procfs::page_size();
        let mut vmas = read_smaps(pid)?;
        let pagemap = Pagemap::open(pid)?;
        let mut flags = FrameFlags::default();
        let mut anon = Vec::new();
        for vma in &mut vmas {
            if vma.ordinary && vma.anonymous_kb > 0 {
                read_anonymous(vma, page_size, &pagemap, &mut flags, &mut anon)?;
            }
            // A large anonymous mapping need not be read twice.
            if vma.private_dirty_kb > 0 && vma.rss_kb > vma.anonymous_kb {
                vma.cache_private_dirty_kb =
                    cache_private_dirty(vma, page_size, &pagemap, &mut flags)? / 1024;
            }
        }
        Ok(Snapshot { pid, page_size, vmas, anon })
    }

    /// The mapping with this name, such as `[heap]`.
    pub fn named(&self, name: &str) -> Option<&Vma> {
        self.vmas.iter().find(|vma| vma.name == name)
    }

    /// The mapping that holds this page.
    pub fn vma_of(&self, page: u64) -> Option<&Vma> {
        let address = page.checked_mul(self.page_size)?;
        let after = self.vmas.partition_point(|vma| vma.start <= address);
        self.vmas.get(after.checked_sub(1)?).filter(|vma| vma.contains(address))
    }

    /// The anonymous page with this number, if it is in memory.
    pub fn anon_page(&self, page: u64) -> Option<&AnonPage> {
        self.anon.binary_search_by_key(&page, |anon| anon.page).ok().map(|index| &self.anon[index])
    }
}

fn read_anonymous(
    vma: &Vma,
    page_size: u64,
    pagemap: &Pagemap,
    flags: &mut FrameFlags,
    anon: &mut Vec<AnonPage>,
) -> Result<(), ProcError> {
    let first = anon.len();
    let mut cache_pages = 0;
    pagemap.pages(vma.start / page_size, vma.end / page_size, |page, entry: Entry| {
        if entry.present() && entry.file_or_shared() {
            cache_pages += 1;
        } else if entry.present() {
            let (frame, mapped_once) = (entry.frame(), entry.mapped_once());
            anon.push(AnonPage { page, frame, mapped_once, merged: false });
        }
    })?;
    if vma.mergeable {
        for page in &mut anon[first..] {
            page.merged = flags.is_merged(page.frame)?;
        }
    }
    // smaps leaves the zero page out, pagemap shows it as any other: only then is each shared frame looked
    // at.
    let counted = (anon.len() - first) as u64;
    if counted + cache_pages > vma.rss_kb * 1024 / page_size {
        let mut kept = first;
        for index in first..anon.len() {
            let page = anon[index];
            if page.mapped_once || !flags.is_zero_page(page.frame)? {
                anon[kept] = page;
                kept += 1;
            }
        }
        anon.truncate(kept);
    }
    Ok(())
}

/// Bytes of page-cache pages that smaps counts as private and dirty.
fn cache_private_dirty(
    vma: &Vma,
    page_size: u64,
    pagemap: &Pagemap,
    flags: &mut FrameFlags,
) -> Result<u64, ProcError> {
    let mut frames = Vec::new();
    pagemap.pages(vma.start / page_size, vma.end / page_size, |_, entry| {
        if entry.present() && entry.file_or_shared() && entry.mapped_once() {
            frames.push(entry.frame());
        }
    })?;
    let mut bytes = 0;
    for frame in frames {
        if flags.is_dirty(frame)? {
            bytes += page_size;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let vma = |start, end, name: &str| Vma { start, end, name: name.into(), ..Vma::default() };
        let anon = |page| AnonPage { page, frame: page + 100, mapped_once: true, merged: false };
        Snapshot {
            pid: 1,
            page_size: 4096,
            vmas: vec![vma(0x1000, 0x3000, "[heap]"), vma(0x5000, 0x6000, "")],
            anon: vec![anon(1), anon(5)],
        }
    }

    #[test]
    fn pages_are_found_in_their_mappings() {
        let snapshot = snapshot();
        let name = |page| snapshot.vma_of(page).map(Vma::label);
        assert_eq!(
            [name(0), name(1), name(2), name(3), name(5), name(6)],
            [None, Some("[heap]"), Some("[heap]"), None, Some("anonymous"), None]
        );
        assert_eq!(snapshot.anon_page(5).map(|page| page.frame), Some(105));
        assert_eq!(snapshot.anon_page(2), None);
    }

    #[test]
    fn own_process_can_be_read() {
        // Frame numbers need root; without it the error must say so.
        match Snapshot::take(std::process::id()) {
            Ok(snapshot) => {
                let stack = snapshot.named("[stack]").unwrap();
                let pages =
                    snapshot.anon.iter().filter(|anon| stack.contains(anon.page * snapshot.page_size));
                assert!(pages.count() as u64 * snapshot.page_size / 1024 <= stack.size_kb);
                assert!(!snapshot.anon.is_empty());
            }
            Err(ProcError::HiddenFrames { .. } | ProcError::Process { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
