//! Which functions of the kernel there are to watch, and which the compiler has dissolved in others.

use serde::Serialize;

use crate::kernel::Symbols;

/// Where copies, and what belongs to them, happen in the kernels since 5.10.
pub const FUNCTIONS: [&str; 14] = [
    "do_wp_page",
    "wp_page_copy",
    "wp_page_reuse",
    "do_cow_fault",
    "do_swap_page",
    "folio_add_new_anon_rmap",
    "page_add_new_anon_rmap",
    "hugetlb_wp",
    "hugetlb_cow",
    "hugetlb_add_new_anon_rmap",
    "hugepage_add_new_anon_rmap",
    "__split_huge_pmd",
    "kernel_clone",
    "wake_up_new_task",
];

/// What became of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// A symbol with a type: fentry and kprobes can watch it.
    Whole,
    /// A symbol that BTF does not describe: kprobes only.
    SymbolOnly,
    /// Only under other names, with other arguments than the source has.
    Changed,
    /// No symbol: inlined, or not in this kernel.
    Absent,
    /// It could not be found out.
    Unknown,
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionFact {
    /// Its name in the source.
    pub name: &'static str,
    /// What became of it.
    pub presence: Presence,
    /// A symbol of this name; `None` if the symbols cannot be read.
    pub symbol: Option<bool>,
    /// A type of this name; `None` if there is no type information.
    pub described: Option<bool>,
    /// Symbols that the compiler has made of it.
    pub variants: Vec<String>,
}

/// From what symbols and type information tell of [`FUNCTIONS`], in their order.
pub(super) fn facts(symbols: Option<&Symbols>, described: Option<&[bool]>) -> Vec<FunctionFact> {
    let fact = |(index, name): (usize, &&'static str)| {
        let sighting = symbols.and_then(|symbols| symbols.functions.get(index));
        let described = described.and_then(|described| described.get(index)).copied();
        let variants = sighting.map(|sighting| sighting.variants.clone()).unwrap_or_default();
        let symbol = sighting.map(|sighting| sighting.listed);
        let presence = match (symbol, described) {
            (None, _) => Presence::Unknown,
            (Some(true), Some(false)) => Presence::SymbolOnly,
            (Some(true), _) => Presence::Whole,
            (Some(false), _) if !variants.is_empty() => Presence::Changed,
            (Some(false), _) => Presence::Absent,
        };
        FunctionFact { name, presence, symbol, described, variants }
    };
    FUNCTIONS.iter().enumerate().map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Sighting;

    fn presence_of(sighting: Sighting, described: Option<bool>) -> Presence {
        let mut functions = vec![Sighting::default(); FUNCTIONS.len()];
        functions[0] = sighting;
        let described = described.map(|described| vec![described; FUNCTIONS.len()]);
        facts(Some(&Symbols { addresses: true, functions }), described.as_deref())[0].presence
    }

    #[test]
    fn a_function_needs_a_symbol_and_a_type_to_be_whole() {
        let listed = || Sighting { listed: true, variants: Vec::new() };
        assert_eq!(presence_of(listed(), Some(true)), Presence::Whole);
        assert_eq!(presence_of(listed(), Some(false)), Presence::SymbolOnly);
        assert_eq!(presence_of(Sighting::default(), Some(true)), Presence::Absent);
        let changed = Sighting { listed: false, variants: vec!["do_wp_page.isra.0".to_owned()] };
        assert_eq!(presence_of(changed, Some(false)), Presence::Changed);
    }

    #[test]
    fn without_symbols_nothing_is_known_and_without_types_symbols_are() {
        assert!(facts(None, None).iter().all(|fact| fact.presence == Presence::Unknown));
        let listed = Sighting { listed: true, variants: Vec::new() };
        assert_eq!(presence_of(listed, None), Presence::Whole);
    }
}
