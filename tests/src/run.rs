//! Running cowtrace, and reading its reports.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// User id of commands that run [`traced_as_marker`], and of nothing else on the machine.
pub const MARKER_UID: u32 = 61_234;

/// A traced command: the report, and what was printed.
pub struct Traced {
    /// The JSON report.
    pub report: Value,
    /// Of cowtrace itself.
    pub output: Output,
}

/// The program under test: `COWTRACE_BIN`, or the release build.
pub fn cowtrace() -> PathBuf {
    binary("COWTRACE_BIN", "cowtrace")
}

/// The workload program: `COWTRACE_WORKLOAD`, or the release build.
pub fn workload() -> PathBuf {
    binary("COWTRACE_WORKLOAD", "cowtrace-workload")
}

/// `cowtrace SUBCOMMAND`, on the backend under test: `COWTRACE_BACKEND`, or what cowtrace chooses by itself.
pub fn tracer(subcommand: &str) -> Command {
    let mut command = Command::new(cowtrace());
    command.arg(subcommand);
    if let Some(backend) = backend() {
        command.args(["--backend", &backend]);
    }
    command
}

/// The backend under test, if one is asked for.
pub fn backend() -> Option<String> {
    env::var("COWTRACE_BACKEND").ok().filter(|name| !name.is_empty())
}

/// How often something is repeated: so often, or `COWTRACE_ROUNDS` times where the machine is slow.
pub fn rounds(usual: u32) -> u32 {
    env::var("COWTRACE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

fn binary(variable: &str, name: &str) -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release").join(name);
    env::var_os(variable).map_or_else(built, PathBuf::from)
}

/// An empty directory that everybody may use.
pub fn scratch() -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("cowtrace-test-").tempdir_in("/tmp")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
    Ok(directory)
}

/// Whether a directory is on a file system that keeps its files in memory, where nothing is ever written out.
pub fn in_memory(directory: &Path) -> Result<bool> {
    let kind = Command::new("stat").args(["-f", "-c", "%T"]).arg(directory).output()?;
    Ok(["tmpfs", "ramfs"].contains(&String::from_utf8_lossy(&kind.stdout).trim()))
}

/// Where a program lies, if it is installed.
pub fn found(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// How often a run is made again that says that it lost something.
const TRIES: u32 = 20;

/// Where the kernel may skip runs of preempted programs (`COWTRACE_UNSURE`), counts are exact only if the report says that
/// nothing was lost: it is traced again until it does.
pub fn again_while_lost<T>(
    mut trace: impl FnMut() -> Result<T>,
    nothing_lost: impl Fn(&T) -> bool,
) -> Result<T> {
    let mut traced = trace()?;
    if env::var_os("COWTRACE_UNSURE").is_some() {
        for _ in 0..TRIES {
            if nothing_lost(&traced) {
                break;
            }
            traced = trace()?;
        }
    }
    Ok(traced)
}

/// `cowtrace run OPTIONS --format json -o FILE -- COMMAND`; see [`again_while_lost`].
pub fn trace<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Result<Traced> {
    again_while_lost(|| trace_once(options, command), |traced| traced.nothing_lost().is_ok())
}

fn trace_once<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Result<Traced> {
    let directory = scratch()?;
    let file = directory.path().join("report.json");
    let output = tracer("run")
        .args(options)
        .args(["--format", "json", "-o"])
        .arg(&file)
        .arg("--")
        .args(command)
        .current_dir(directory.path())
        // A place of its own: a signal to the group must not reach the tests.
        .process_group(0)
        .output()
        .with_context(|| format!("cannot run {}", cowtrace().display()))?;
    let text = fs::read_to_string(&file).with_context(|| format!("no report; cowtrace says {output:?}"))?;
    let report =
        serde_json::from_str(&text).with_context(|| format!("no JSON report; cowtrace says {output:?}"))?;
    Ok(Traced { report, output })
}

/// As [`trace`], with a user id that marks each process of the command in the kernel's records.
pub fn traced_as_marker<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Result<Traced> {
    let setpriv = found("setpriv").context("setpriv (Debian: util-linux) is not installed")?;
    let uid = MARKER_UID.to_string();
    let mut words = vec![setpriv.into_os_string()];
    words.extend(["--reuid", &uid, "--regid", &uid, "--clear-groups"].map(Into::into));
    words.extend(command.iter().map(|word| word.as_ref().to_owned()));
    trace(options, &words)
}

/// `sh -c SCRIPT` as a command.
pub fn shell(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

impl Traced {
    /// The report, after making sure that nothing was lost and that the command ended well.
    pub fn complete(self) -> Result<Value> {
        ensure!(self.output.status.success(), "the command failed: {:?}", self.output);
        self.nothing_lost()?;
        Ok(self.report)
    }

    /// Fails if anything was lost.
    pub fn nothing_lost(&self) -> Result<()> {
        for what in ["events", "processes", "regions", "stacks"] {
            let lost = number(&self.report, &format!("/lost/{what}"))?;
            ensure!(lost == 0, "{lost} {what} lost: {}", self.report["lost"]);
        }
        let pages = self.report["lost"]["pages"].as_u64().unwrap_or(0);
        ensure!(pages == 0, "{pages} copies not counted by page");
        Ok(())
    }

    /// What cowtrace and the command wrote to standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

/// Waits for a process, and ends it if it takes longer than that.
pub fn finish(mut child: Child, limit: Duration) -> Result<Output> {
    let end = Instant::now() + limit;
    // Read meanwhile: a pipe that is full would hold the program up.
    let (stdout, stderr) = (child.stdout.take().map(read_on), child.stderr.take().map(read_on));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("still running after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let all = |reader: Option<JoinHandle<Vec<u8>>>| {
        reader.and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    Ok(Output { status, stdout: all(stdout), stderr: all(stderr) })
}

fn read_on(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// The region of a process with the most faults of a kind.
pub fn top_region<'a>(process: &'a Value, kind: &str) -> Result<&'a Value> {
    let regions = field(process, "/regions")?.as_array().context("regions is no list")?;
    let count = |region: &&Value| region["faults"][kind].as_u64();
    regions.iter().max_by_key(count).with_context(|| format!("no regions in {process}"))
}

/// The command's process, or the only one that was forked from it.
pub fn process(report: &Value, forked: bool) -> Result<&Value> {
    let all = processes(report)?;
    let mut of_kind = all.into_iter().filter(|process| process["forked_from"].is_null() != forked);
    let only = of_kind.next().context("no such process")?;
    ensure!(of_kind.next().is_none(), "more than one such process");
    Ok(only)
}

/// The value at a JSON pointer.
pub fn field<'a>(value: &'a Value, pointer: &str) -> Result<&'a Value> {
    value.pointer(pointer).with_context(|| format!("no {pointer} in {value}"))
}

/// The number at a JSON pointer; `null` is none.
pub fn number(value: &Value, pointer: &str) -> Result<u64> {
    field(value, pointer)?.as_u64().with_context(|| format!("{pointer} is no number in {value}"))
}

/// The string at a JSON pointer.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    field(value, pointer)?.as_str().with_context(|| format!("{pointer} is no string in {value}"))
}

/// The processes of a report, in the order of their creation.
pub fn processes(report: &Value) -> Result<Vec<&Value>> {
    Ok(field(report, "/processes")?.as_array().context("processes is no list")?.iter().collect())
}
