//! Takes the functions that cowtrace looks for out of `/proc/kallsyms`.

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

    /// Also if the compiler has made a variant of the function, as in `wp_page_copy.isra.0`.
    fn is_wanted(&self) -> bool {
        let name = self.name.split('.').next().unwrap_or(self.name);
        wanted::FUNCTIONS.contains(&name) || wanted::OTHER_SYMBOLS.contains(&name)
    }
}

/// The lines of what is wanted, each with the line before it and those up to the next higher address.
pub fn excerpt(kallsyms: &str) -> Result<String> {
    let symbols: Vec<Symbol> = kallsyms.lines().filter_map(Symbol::read).collect();
    let text = symbols.iter().find(|symbol| symbol.name == "_text").context("the kernel lists no _text")?;
    if text.address == 0 {
        bail!("the kernel shows no addresses: it does to root, with kernel.kptr_restrict below 2");
    }
    let mut kept = BTreeSet::new();
    for (index, symbol) in symbols.iter().enumerate().filter(|(_, symbol)| symbol.is_wanted()) {
        let after = symbols.iter().skip(index).take_while(|next| next.address <= symbol.address).count();
        kept.extend(index.saturating_sub(1)..=index + after);
    }
    let mut excerpt = String::new();
    for symbol in kept.into_iter().filter_map(|index| symbols.get(index)) {
        // What lies below is a number, and no place in memory.
        let address =
            symbol.address.checked_sub(text.address).map_or(symbol.address, |distance| TEXT + distance);
        writeln!(excerpt, "{address:016x} {} {}", symbol.kind, symbol.name)?;
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
    }

    #[test]
    fn hidden_addresses_are_an_error() {
        let error = excerpt("0000000000000000 T _text\n0000000000000000 T do_wp_page\n").unwrap_err();
        assert!(error.to_string().contains("kptr_restrict"), "{error}");
    }
}
