//! Function addresses from `/proc/kallsyms`.

use std::io::{BufRead as _, BufReader, Read};

/// A function's place in the kernel text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// First byte.
    pub start: u64,
    /// One past the last byte: where the next function starts.
    pub end: u64,
}

/// Functions that the programs look for on the kernel stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackSymbols {
    /// Under which every page fault in kernel mode runs.
    pub page_fault: Option<Symbol>,
    /// `do_wp_page`.
    pub wp_page: Option<Symbol>,
}

/// Where these functions lie, as far as the kernel tells (it shows zeros to those without the privilege).
pub fn stack_symbols() -> StackSymbols {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    // With FRED all exceptions enter through one function. The other is preferred as it is listed near the beginning.
    let fault =
        if flags.split(' ').any(|flag| flag == "fred") { "exc_page_fault" } else { "asm_exc_page_fault" };
    let Ok(kallsyms) = std::fs::File::open("/proc/kallsyms") else { return StackSymbols::default() };
    let [page_fault, wp_page] = ranges_in(kallsyms, [fault, "do_wp_page"]);
    StackSymbols { page_fault, wp_page }
}

/// Where functions lie, from the text of kallsyms. The kernel's own symbols are listed in ascending order, so that the
/// next higher address ends a function; reading stops when all are found, as the whole list takes 60 ms to print.
pub(super) fn ranges_in<const N: usize>(kallsyms: impl Read, names: [&str; N]) -> [Option<Symbol>; N] {
    let mut starts = [None; N];
    let mut found = [None; N];
    let mut line = Vec::new();
    let mut reader = BufReader::with_capacity(1 << 16, kallsyms);
    while found.iter().any(Option::is_none)
        && reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0)
    {
        let text = String::from_utf8_lossy(&line);
        let mut words = text.split_ascii_whitespace();
        let address = words.next().and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0);
        let symbol = words.nth(1);
        for ((name, start), found) in names.iter().zip(&mut starts).zip(&mut found) {
            match *start {
                None if symbol == Some(*name) && address != 0 => *start = Some(address),
                Some(start) if address > start && found.is_none() => {
                    *found = Some(Symbol { start, end: address })
                }
                _ => {}
            }
        }
        line.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "ffffffff81000000 T _text\nffffffff815e2f50 t do_wp_page\nffffffff815e2f50 t alias\n\
                            ffffffff815e3b00 t do_swap_page\nffffffff815e4000 T x\n";

    #[test]
    fn a_function_ends_where_the_next_address_begins() {
        let found = ranges_in(KALLSYMS.as_bytes(), ["do_wp_page", "_text"]);
        let wp_page = Symbol { start: 0xffff_ffff_815e_2f50, end: 0xffff_ffff_815e_3b00 };
        let text = Symbol { start: 0xffff_ffff_8100_0000, end: 0xffff_ffff_815e_2f50 };
        assert_eq!(found, [Some(wp_page), Some(text)]);
    }

    #[test]
    fn absent_and_hidden_symbols_are_not_found() {
        assert_eq!(ranges_in(KALLSYMS.as_bytes(), ["wp_page_copy"]), [None]);
        let hidden = &b"0000000000000000 t do_wp_page\n0000000000000000 t x\n"[..];
        assert_eq!(ranges_in(hidden, ["do_wp_page"]), [None]);
    }
}
