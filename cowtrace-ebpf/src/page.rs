//! What a page holds, as its descriptor (`struct page`, `struct folio`) tells.

use cowtrace_abi::Kind;

use crate::{config, read};

/// Masks have all high bits set, which no address of a descriptor has.
const MASKS: u64 = 0xffff_ffff_0000_0000;

/// Low bits of `page->mapping` (`include/linux/page-flags.h`).
const MAPPING_ANON: u64 = 1;
const MAPPING_KSM: u64 = 3;

/// A page's descriptor, as far as it matters here.
pub struct Content {
    /// Kernel address of the descriptor of the folio's first page.
    pub head: u64,
    mapping: u64,
}

impl Content {
    /// Whether the page is anonymous memory.
    #[inline(always)]
    pub fn is_anonymous(&self) -> bool {
        self.mapping & MAPPING_ANON != 0
    }

    /// Whether nobody owns the page: neither a process nor a file. Of the pages that are mapped in large blocks, that is the
    /// huge zero page.
    #[inline(always)]
    pub fn is_nobodys(&self) -> bool {
        self.mapping == 0
    }

    /// What a copy of the page by `wp_page_copy` is.
    #[inline(always)]
    pub fn kind(&self) -> Kind {
        match self.mapping & MAPPING_KSM {
            MAPPING_KSM => Kind::Ksm,
            MAPPING_ANON => Kind::Copy,
            _ => Kind::FileAfterRead,
        }
    }
}

/// Reads the descriptor at this kernel address.
#[inline(always)]
pub fn content(page: u64) -> Option<Content> {
    // Both fields lie in the first words of the descriptor: one read instead of two.
    let words = read::kernel::<[u64; 4]>(page)?;
    let link = words[(config!(page_compound_head) as usize / 8) & 3];
    let mapping = (config!(page_mapping) as usize / 8) & 3;
    if link & 1 == 0 {
        return Some(Content { head: page, mapping: words[mapping] });
    }
    let head = head_of(page, link - 1);
    Some(Content { head, mapping: read::kernel::<[u64; 4]>(head)?[mapping] })
}

/// The descriptor of the first page of a folio, from that of a later one and what it holds: the address, or, where
/// descriptors of huge pages are optimised away (`compound_info`), a mask that leads from the one to the other.
#[inline(always)]
fn head_of(page: u64, link: u64) -> u64 {
    if link >= MASKS { page & link } else { link }
}

/// Number of pages of the folio with this first page.
#[inline(always)]
pub fn pages(head: u64) -> u64 {
    let flags: u64 = read::kernel(head + config!(page_flags)).unwrap_or(0);
    if flags & config!(page_head_flag) == 0 {
        return 1;
    }
    let order: u8 = read::kernel(head + config!(folio_order)).unwrap_or(0);
    1 << (order & 31)
}
