//! Puts the measured table into docs/compatibility.md.

use std::fs;

use anyhow::{Context as _, Result};

use super::{cell::Cell, table};
use crate::sys;

const DOCUMENT: &str = "docs/compatibility.md";
const BEGIN: &str = "<!-- measured: begin (cargo xtask vm --write-docs) -->\n";
const END: &str = "<!-- measured: end -->";

/// Replaces the table there.
pub fn write(cells: &[Cell]) -> Result<()> {
    let path = sys::workspace_root()?.join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let changed = with_table(&document, &table::markdown(cells))
        .with_context(|| format!("{} has no place for the table: {BEGIN}", path.display()))?;
    fs::write(&path, changed).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("vm: the table is in {}", path.display());
    Ok(())
}

fn with_table(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_the_rest_stays() {
        let document = format!("# Title\n{BEGIN}\nold\n{END}\nrest\n");
        let changed = with_table(&document, "| new |\n").unwrap();
        assert_eq!(changed, format!("# Title\n{BEGIN}\n| new |\n\n{END}\nrest\n"));
        assert_eq!(with_table(&changed, "| new |\n").unwrap(), changed);
        assert_eq!(with_table("# Title\n", "x"), None);
    }
}
