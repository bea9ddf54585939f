//! Processes and paths: how the commands start programs, become root and find things.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{fs::MetadataExt as _, fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The checkout that this xtask belongs to.
pub fn workspace_root() -> Result<PathBuf> {
    // Read at run time, so that a target directory shared by several clones cannot mix them up.
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .context("CARGO_MANIFEST_DIR is not set: start this program as `cargo xtask …`")?;
    let root = xtask.parent().map(Path::to_path_buf);
    root.with_context(|| format!("{} has no parent directory", xtask.display()))
}

/// The cargo that started us, working in the checkout.
pub fn cargo() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root()?);
    Ok(command)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Looks for `program` on PATH, and where distributions keep the administrator's tools.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(program))
        .find(|candidate| is_executable(candidate))
}

/// Whether this process has root's effective user id.
pub fn is_root() -> bool {
    // The owner of /proc/self is the effective user: no libc call needed.
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A command that runs as root, through sudo where we are not root already.
pub fn as_root<S: AsRef<OsStr>>(argv: &[S]) -> Result<Command> {
    let Some((program, args)) = argv.split_first() else { bail!("an empty command cannot be run as root") };
    let mut command = if is_root() {
        Command::new(program)
    } else if find_program("sudo").is_some() {
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    } else {
        let line = show(argv);
        bail!("this needs root, and there is no sudo here: run `{line}` as root, then try again");
    };
    command.args(args);
    Ok(command)
}

/// One line that a person can read and paste.
pub fn show<S: AsRef<OsStr>>(argv: &[S]) -> String {
    let quote = |word: &S| {
        let word = word.as_ref().to_string_lossy();
        let plain = |c: char| c.is_alphanumeric() || "-_./=:+,@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// The same of a command.
pub fn show_command(command: &Command) -> String {
    let argv: Vec<OsString> =
        [command.get_program()].into_iter().chain(command.get_args()).map(Into::into).collect();
    show(&argv)
}

/// Runs to the end with our own output streams; the caller judges the status.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start `{}`", show_command(command)))
}

/// Runs to the end with our own output streams; any status but 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed: {status}", show_command(command));
    }
    Ok(())
}

/// Standard output of a command that must succeed; its messages go into the error where it does not.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show_command(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed: {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The status to pass on, as a shell would tell it.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_commands_can_be_pasted() {
        assert_eq!(show(&["apt-get", "install", "-o", "A::B=3"]), "apt-get install -o A::B=3");
        assert_eq!(show(&["echo", "it's", ""]), r"echo 'it'\''s' ''");
    }

    #[test]
    fn statuses_are_passed_on_as_a_shell_would() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), ExitCode::from(3));
        assert_eq!(exit_code(ExitStatus::from_raw(9)), ExitCode::from(137));
    }
}
