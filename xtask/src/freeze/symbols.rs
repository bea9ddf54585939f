//! Takes the functions that cowtrace looks for out of the kernel's lists.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Context as _, Result, bail};

use super::wanted;

/// Where the text of an x86 kernel begins when it is not moved. Where it really was on that boot is not kept.
const TEXT: u64 = 0xffff_ffff_8100_0000;

struct Symbol<'a> {
    address: u64,
    kind: &'a str,
    name: &'a str,
}

impl<'a> Symbol<'a> {
    /// Of the kernel itself: lines of modules have one word more.
    fn read(line: &'a str) -> Option<Symbol<'a>> {
        let mut words = line.split_ascii_whitespace();
        let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() {
            return None;
        }
        Some(Symbol { address: u64::from_str_radix(address, 16).ok()?, kind, name })
    }
}

/// Also if the compiler has made a variant of the function, as in `wp_page_copy.isra.0`.
fn is_wanted(name: &str) -> bool {
    let name = name.split('.').next().unwrap_or(name);
    wanted::FUNCTIONS.contains(&name) || wanted::OTHER_SYMBOLS.contains(&name)
}

/// The wanted functions that the kernel does not list under just their name, in the order of their names.
pub fn absent(kallsyms: &str) -> String {
    let listed: BTreeSet<&str> =
        kallsyms.lines().filter_map(Symbol::read).map(|symbol| symbol.name).collect();
    wanted::FUNCTIONS
        .into_iter()
        .filter(|name| !listed.contains(name))
        .flat_map(|name| [name, "\n"])
        .collect()
}

/// The wanted ones in the list of functions that can be traced, in the order of their names.
pub fn traceable(list: &str) -> String {
    // Lines of modules have a second word.
    let wanted: BTreeSet<&str> = list.lines().filter(|name| !name.contains(' ') && is_wanted(name)).collect();
    wanted.into_iter().flat_map(|name| [name, "\n"]).collect()
}

/// The lines of what is wanted, each with the line before it and those up to the next higher address.
pub fn excerpt(kallsyms: &str) -> Result<String> {
    let symbols: Vec<Symbol> = kallsyms.lines().filter_map(Symbol::read).collect();
    let text = symbols.iter().find(|symbol| symbol.name == "_stext").context("the kernel lists no _stext")?;
    if text.address == 0 {
        bail!("the kernel shows no addresses: it does to root, with kernel.kptr_restrict below 2");
    }
    let mut kept = BTreeSet::new();
    for (index, symbol) in symbols.iter().enumerate().filter(|(_, symbol)| is_wanted(symbol.name)) {
        let after = symbols.iter().skip(index).take_while(|next| next.address <= symbol.address).count();
        kept.extend(index.saturating_sub(1)..=index + after);
    }
    let mut excerpt = String::new();
    for symbol in kept.into_iter().filter_map(|index| symbols.get(index)) {
        // Below the text are numbers and offsets, and no functions.
        if let Some(distance) = symbol.address.checked_sub(text.address) {
            writeln!(excerpt, "{:016x} {} {}", TEXT + distance, symbol.kind, symbol.name)?;
        }
    }
    Ok(excerpt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_symbols_keep_their_neighbours_and_lose_their_place() {
        let kallsyms = "0000000000000000 A irq_stack\nffffffffb3000000 T _stext\nffffffffb3000000 T _text\n\
                        ffffffffb3000040 t a\nffffffffb3000050 t b\nffffffffb3000080 t wp_page_copy.isra.0\n\
                        ffffffffb3000080 t alias\nffffffffb3000090 t c\nffffffffb30000a0 t d\n\
                        ffffffffc0000000 t do_wp_page\t[a_module]\n";
        let expected = "ffffffff81000000 T _stext\nffffffff81000000 T _text\nffffffff81000040 t a\n\
                        ffffffff81000050 t b\nffffffff81000080 t wp_page_copy.isra.0\n\
                        ffffffff81000080 t alias\nffffffff81000090 t c\n";
        assert_eq!(excerpt(kallsyms).unwrap(), expected);
        let absent = absent(kallsyms);
        assert!(absent.contains("\ndo_wp_page\n") && absent.contains("\nwp_page_copy\n"), "{absent}");
    }

    #[test]
    fn traceable_functions_are_those_of_the_kernel_itself() {
        assert_eq!(
            traceable("b\nkernel_clone\nhandle_mm_fault [a]\ndo_wp_page\n"),
            "do_wp_page\nkernel_clone\n"
        );
    }

    #[test]
    fn hidden_addresses_are_an_error() {
        let error = excerpt("0000000000000000 T _stext\n0000000000000000 T do_wp_page\n").unwrap_err();
        assert!(error.to_string().contains("kptr_restrict"), "{error}");
    }
}
