//! Which of the kernel's functions tell about copies: they differ by version, and by what the compiler inlined.

use super::{LayoutError, btf::KernelTypes};

/// What tells that a copy is tried. Its end may be that another has changed the page meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The copy function itself.
    Copy {
        /// Its name.
        wp_copy: &'static str,
    },
    /// It is inlined into its only caller; what it calls to allocate the page is not.
    Allocation {
        /// Allocates a page for a mapping and an address: its third and fourth argument.
        alloc: &'static str,
        /// Entry of each fault: an allocation belongs to the last one.
        mm_fault: &'static str,
    },
}

/// Functions that programs can be put on, by what they tell. Only those that the kernel's BTF has are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFunctions {
    /// Entry of the write-protect path.
    pub wp_page: &'static str,
    /// What tells that a copy is tried.
    pub attempt: Attempt,
    /// A new anonymous page is installed.
    pub new_anon: &'static str,
    /// A page comes back from swap.
    pub swap_page: Option<&'static str>,
    /// Entry of each fault in hugetlb memory.
    pub hugetlb_fault: Option<&'static str>,
    /// Write to a hugetlb page that is not writable.
    pub hugetlb_wp: Option<&'static str>,
    /// A new anonymous hugetlb page is installed.
    pub hugetlb_new: Option<&'static str>,
    /// A huge page's mapping is split.
    pub huge_split: Option<&'static str>,
    /// A process or thread is being created.
    pub clone: Option<&'static str>,
    /// Which argument of [`KernelFunctions::hugetlb_wp`] is a `struct vm_fault`, from 1; 0 where it has none.
    pub hugetlb_wp_vmf: u64,
}

impl KernelFunctions {
    /// From the running kernel's types.
    pub(super) fn find(types: &KernelTypes) -> Result<KernelFunctions, LayoutError> {
        let any = |names: &[&'static str]| names.iter().copied().find(|name| types.has_function(name));
        let need = |names: &[&'static str]| {
            any(names).ok_or(LayoutError::NoFunction { name: names.first().copied().unwrap_or("?") })
        };
        let hugetlb_wp = any(&["hugetlb_wp", "hugetlb_cow"]);
        let parameters = hugetlb_wp.map(|name| types.parameters(name)).unwrap_or_default();
        let vm_fault = parameters.iter().position(|name| name == "vm_fault");
        let attempt = match any(&["wp_page_copy"]) {
            Some(wp_copy) => Attempt::Copy { wp_copy },
            None => Attempt::Allocation {
                alloc: need(&["vma_alloc_folio_noprof", "vma_alloc_folio", "alloc_pages_vma"])?,
                mm_fault: need(&["handle_mm_fault"])?,
            },
        };
        Ok(KernelFunctions {
            wp_page: need(&["do_wp_page"])?,
            attempt,
            new_anon: need(&["folio_add_new_anon_rmap", "page_add_new_anon_rmap"])?,
            swap_page: any(&["do_swap_page"]),
            hugetlb_fault: any(&["hugetlb_fault"]),
            hugetlb_wp,
            hugetlb_new: any(&["hugetlb_add_new_anon_rmap", "hugepage_add_new_anon_rmap"]),
            huge_split: any(&["__split_huge_pmd"]),
            clone: any(&["kernel_clone"]),
            hugetlb_wp_vmf: vm_fault.map_or(0, |position| position as u64 + 1),
        })
    }
}
