//! What a kernel without drivers of the guest's disk is booted with: its modules, and a step on to the disk.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{disk::Tree, tools, userland::Userland};
use crate::sys;

const INIT: &str = include_str!("initrd.sh");
/// The archive that the kernel unpacks, by this machine's busybox.
const PACK: &str = "cd \"$1\" && find . | \"$2\" cpio -o -H newc > \"$3\"";

/// Makes the file for a kernel, whose modules come in the order in which they are loaded; `root` is where its files are
/// gathered.
pub fn make(userland: &Userland, modules: &[PathBuf], root: &Path, goal: &Path) -> Result<()> {
    let tree = Tree::new(root.to_owned(), userland)?;
    for directory in ["proc", "dev", "disk"] {
        tree.directory(directory)?;
    }
    tree.program(&userland.busybox()?, "bin/busybox")?;
    let mut order = String::new();
    for (index, module) in modules.iter().enumerate() {
        let path = format!("modules/{index}.ko");
        tree.copy(module, &path)?;
        order += &format!("/{path}\n");
    }
    tree.file("order", 0o644, order.as_bytes())?;
    tree.file("init", 0o755, INIT.as_bytes())?;
    let packer = tools::BUSYBOX.path()?;
    sys::output(Command::new("sh").args(["-c", PACK, "sh"]).args([root, &packer, goal]))?;
    Ok(())
}
