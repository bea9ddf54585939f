//! `cargo xtask lab`: builds, then runs the lab under the tracer.

use std::process::ExitCode;

use anyhow::Result;

use crate::{build, setup::Needs, sys};

/// Options of `lab`.
#[derive(clap::Args)]
pub struct Args {
    /// Handed to `cowtrace lab` as they are (try --help)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// The command; its status is the lab's own.
pub fn command(args: &Args) -> Result<ExitCode> {
    let programs = build::build(Needs::Lab)?;
    let mut argv = vec![programs.cowtrace.into_os_string(), "lab".into()];
    argv.extend(args.args.iter().map(Into::into));
    Ok(sys::exit_code(sys::status(&mut sys::as_root(&argv)?)?))
}
