//! Which functions the running kernel has: as symbols, which kprobes need, and as types, which fentry needs as well.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::Path,
};

use super::{LayoutError, btf::KernelTypes};

const KALLSYMS: &str = "/proc/kallsyms";

/// What kallsyms shows of some functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// Addresses are shown; they read as zeros to those without the privilege.
    pub addresses: bool,
    /// For each name, in the order in which they were asked for.
    pub functions: Vec<Sighting>,
}

/// One function in kallsyms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// It is there under its own name.
    pub listed: bool,
    /// Names under which the compiler has left it, or parts of it: `do_wp_page.isra.0`.
    pub variants: Vec<String>,
}

/// Looks for functions in the running kernel's symbols.
///
/// # Errors
/// kallsyms cannot be read.
pub fn symbols_named(names: &[&str]) -> io::Result<Symbols> {
    symbols_in(File::open(KALLSYMS)?, names)
}

/// The same in the text of kallsyms.
///
/// # Errors
/// The text cannot be read, or there is none.
pub fn symbols_in(kallsyms: impl Read, names: &[&str]) -> io::Result<Symbols> {
    let mut found = Symbols { addresses: false, functions: vec![Sighting::default(); names.len()] };
    let (mut line, mut lines) = (Vec::new(), 0_u64);
    let mut reader = BufReader::with_capacity(1 << 16, kallsyms);
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let mut words = text.split_ascii_whitespace();
        let (address, kind, symbol) = (words.next(), words.next(), words.next());
        found.addresses |= address.is_some_and(|address| address.bytes().any(|digit| digit != b'0'));
        // A fourth word is the module that it belongs to.
        if let (Some("t" | "T" | "w" | "W"), Some(symbol), None) = (kind, symbol, words.next()) {
            let (function, suffix) = symbol.split_once('.').unwrap_or((symbol, ""));
            if let Some(index) = names.iter().position(|name| *name == function) {
                let sighting = &mut found.functions[index];
                match suffix {
                    "" => sighting.listed = true,
                    // The unlikely half of a function that has its entry elsewhere.
                    suffix if suffix.split('.').any(|part| part == "cold") => {}
                    _ => sighting.variants.push(symbol.to_owned()),
                }
            }
        }
        lines += 1;
        line.clear();
    }
    // A kernel without any function is none.
    if lines == 0 { Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty")) } else { Ok(found) }
}

/// For each of these names, whether a BTF file describes such a function.
///
/// # Errors
/// The file cannot be read, or is none; in the words of the reader.
pub fn described_functions(btf: &Path, names: &[&str]) -> Result<Vec<bool>, String> {
    let types = KernelTypes::open(btf).map_err(|error| match error {
        LayoutError::Open { reason, .. } => reason,
        other => other.to_string(),
    })?;
    Ok(names.iter().map(|name| types.has_function(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "ffffffff81000000 T _text\nffffffff815e2f50 t do_wp_page\n\
        ffffffff815e3b00 t do_swap_page.cold\nffffffff815e3c00 t do_cow_fault.isra.0\n\
        ffffffff815e3d00 t hugetlb_wp.constprop.0.cold\nffffffff815e3e00 d kernel_clone\n\
        ffffffffc0000000 t wp_page_copy\t[a_module]\nffffffffc0000100 W wake_up_new_task\n";

    fn sightings(text: &str, names: &[&str]) -> Vec<(bool, usize)> {
        let symbols = symbols_in(text.as_bytes(), names).unwrap();
        symbols.functions.iter().map(|found| (found.listed, found.variants.len())).collect()
    }

    #[test]
    fn functions_are_told_from_their_parts_from_data_and_from_modules() {
        let names = ["do_wp_page", "do_swap_page", "do_cow_fault", "hugetlb_wp", "kernel_clone"];
        let expected = [(true, 0), (false, 0), (false, 1), (false, 0), (false, 0)];
        assert_eq!(sightings(KALLSYMS, &names), expected);
        assert_eq!(sightings(KALLSYMS, &["wp_page_copy", "wake_up_new_task"]), [(false, 0), (true, 0)]);
    }

    #[test]
    fn hidden_addresses_are_zeros() {
        assert!(symbols_in(KALLSYMS.as_bytes(), &[]).unwrap().addresses);
        let hidden = symbols_in(&b"0000000000000000 t do_wp_page\n"[..], &["do_wp_page"]).unwrap();
        assert!(!hidden.addresses && hidden.functions[0].listed, "names are shown to everybody");
        assert!(symbols_in(&b""[..], &[]).is_err());
    }

    #[test]
    fn damaged_type_information_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for content in [&b""[..], b"\x9f\xeb", &[0xa5; 4096]] {
            std::fs::write(file.path(), content).unwrap();
            assert!(described_functions(file.path(), &["do_wp_page"]).is_err(), "{} bytes", content.len());
        }
    }
}
