//! What a page fault turned out to be: the vocabulary that kernel and user space count in.

/// The outcome of one fault, as the kernel programs tell it. The discriminant indexes [`crate::ProcSlot::counts`].
///
/// `FileAfterRead` and `FileFirstWrite` are reported together as `file`; they are counted apart because only
/// the first passes through `wp_page_copy` and so is part of taskstats' `wpcopy_count`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Write to a shared anonymous page: `do_wp_page` -> `wp_page_copy`.
    Copy = 0,
    /// Write to an address that mapped the shared zero page: `wp_page_copy` with the zero pfn.
    Zero = 1,
    /// Write to a private file page that was read before: `wp_page_copy` of a page-cache page.
    FileAfterRead = 2,
    /// First write to a private file page that was not mapped: `do_cow_fault`.
    FileFirstWrite = 3,
    /// Write to a page merged by KSM: `wp_page_copy` of a KSM page.
    Ksm = 4,
    /// hugetlb page copied: `hugetlb_wp`.
    Hugetlb = 5,
    /// `hugetlb_wp` entered and solved without a copy; in `wpcopy_count`, but no copy.
    HugetlbReuse = 6,
    /// Page copied at fork time because it was pinned: `copy_present_page`.
    Pinned = 7,
    /// Write-protect fault solved without a copy: `wp_page_reuse`.
    Reuse = 8,
    /// Write-protect fault on a shared mapping: `wp_page_shared`.
    Shared = 9,
    /// First touch of anonymous memory: `do_anonymous_page`.
    Anon = 10,
    /// Write that the mapping forbids: `bad_area`, SIGSEGV.
    Denied = 11,
    /// `wp_page_copy` entered, and the page changed before the copy could be put in its place: in `wpcopy_count`, but no
    /// copy.
    Raced = 12,
    /// Mapping of a huge page split into one of small pages: `__split_huge_pmd`. No fault of its own.
    HugeSplit = 13,
}

/// Number of [`Kind`]s, and so of counters per process.
pub const KINDS: usize = 14;

impl Kind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Kind; KINDS] = [
        Kind::Copy,
        Kind::Zero,
        Kind::FileAfterRead,
        Kind::FileFirstWrite,
        Kind::Ksm,
        Kind::Hugetlb,
        Kind::HugetlbReuse,
        Kind::Pinned,
        Kind::Reuse,
        Kind::Shared,
        Kind::Anon,
        Kind::Denied,
        Kind::Raced,
        Kind::HugeSplit,
    ];

    /// Whether a page came to be in the place of another, so that it is worth asking which code made it.
    #[inline(always)]
    pub const fn replaces_a_page(self) -> bool {
        matches!(
            self,
            Kind::Copy
                | Kind::Zero
                | Kind::FileAfterRead
                | Kind::FileFirstWrite
                | Kind::Ksm
                | Kind::Hugetlb
                | Kind::Pinned
        )
    }

    /// The kind with this discriminant, if there is one.
    pub fn from_u8(value: u8) -> Option<Kind> {
        Self::ALL.get(usize::from(value)).copied()
    }
}
