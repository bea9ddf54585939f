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

/// The function under which every page fault in kernel mode runs, as its return address is on the stack.
pub fn page_fault_entry() -> Option<Symbol> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    // With FRED all exceptions enter through one function. The other is preferred as it is listed near the beginning.
    let name =
        if flags.split(' ').any(|flag| flag == "fred") { "exc_page_fault" } else { "asm_exc_page_fault" };
    function_range(name)
}

/// Where a kernel function lies, if the kernel tells (it shows zeros to those without the privilege).
fn function_range(name: &str) -> Option<Symbol> {
    let file = std::fs::File::open("/proc/kallsyms").ok()?;
    range_in(file, name)
}

/// The same, from the text of kallsyms. The kernel's own symbols are listed in ascending order, so that the next
/// higher address ends the function; reading stops there, as the whole list takes 60 ms to print.
fn range_in(kallsyms: impl Read, name: &str) -> Option<Symbol> {
    let mut start = None;
    let mut line = Vec::new();
    let mut reader = BufReader::with_capacity(1 << 16, kallsyms);
    while reader.read_until(b'\n', &mut line).ok()? > 0 {
        let text = String::from_utf8_lossy(&line);
        let mut words = text.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let found = words.nth(1);
        match start {
            None if found == Some(name) && address != 0 => start = Some(address),
            Some(start) if address > start => return Some(Symbol { start, end: address }),
            _ => {}
        }
        line.clear();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "ffffffff81000000 T _text\nffffffff815e2f50 t do_wp_page\nffffffff815e2f50 t alias\n\
                            ffffffff815e3b00 t do_swap_page\nffffffff815e4000 T x\n";

    #[test]
    fn a_function_ends_where_the_next_address_begins() {
        let found = range_in(KALLSYMS.as_bytes(), "do_wp_page");
        assert_eq!(found, Some(Symbol { start: 0xffff_ffff_815e_2f50, end: 0xffff_ffff_815e_3b00 }));
    }

    #[test]
    fn absent_and_hidden_symbols_are_not_found() {
        assert_eq!(range_in(KALLSYMS.as_bytes(), "wp_page_copy"), None);
        assert_eq!(
            range_in(&b"0000000000000000 t do_wp_page\n0000000000000000 t x\n"[..], "do_wp_page"),
            None
        );
    }
}
