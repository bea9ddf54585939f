//! A real gunicorn with its data loaded before the fork: what reference counts and the collector copy in each worker, with
//! and without `gc.freeze()`.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Listener, MARKER_UID, Setting, compare, counts_copies, cowtrace, field, finish, found, live, number,
    processes, say, scratch, skip, tracer,
};
use serde_json::Value;

use crate::attach::{nothing_lost, until};

const WORKERS: usize = 4;
/// Requests at most, until each worker has answered one.
const ENOUGH: usize = 2000;
const LIMIT: Duration = Duration::from_secs(60);

/// One life of a server under `cowtrace record`: its report, and the workers that answered, with the times they did.
struct Session {
    report: Value,
    answered: BTreeMap<u64, usize>,
}

/// Starts a server in a folder of its own, asks for `path` until each worker has answered, and stops it.
fn session(place: &Path, recording: &Path, gunicorn: &Path, freeze: bool, path: &str) -> Result<Session> {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    for name in ["prefork.py", "prefork.conf.py"] {
        fs::copy(programs.join(name), place.join(name))?;
    }
    let marker = MARKER_UID.to_string();
    let listener = Listener::start()?;
    let server = tracer("record")
        .args(["--format", "json", "-o"])
        .arg(recording)
        .args(["--", "setpriv", "--reuid", &marker, "--regid", &marker, "--clear-groups"])
        .arg(gunicorn)
        .args(["-c", "prefork.conf.py", "prefork:app"])
        .current_dir(place)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", place)
        .env("FREEZE", if freeze { "1" } else { "" })
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let asked = ask_all(place, path);
    // The server if it came so far, or all that was started.
    let pid = fs::read_to_string(place.join("pid")).ok().and_then(|pid| pid.trim().parse::<i32>().ok());
    // SAFETY: plain numbers; a child of this test's, whose parent has not reaped it, or the group of one.
    unsafe { libc::kill(pid.unwrap_or(-server.id().cast_signed()), libc::SIGTERM) };
    let output = finish(server, LIMIT)?;
    let exited = listener.finish()?;
    let answered = asked.with_context(|| format!("{output:?}"))?;
    ensure!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    if counts_copies() {
        let compared = compare(&report, &exited)?;
        compared.say(&format!("gunicorn, {path}{}", if freeze { ", frozen" } else { "" }));
        compared.exact()?;
    }
    Ok(Session { report, answered })
}

fn ask_all(place: &Path, path: &str) -> Result<BTreeMap<u64, usize>> {
    let socket = place.join("socket");
    until("answer of gunicorn", || UnixStream::connect(&socket).ok())?;
    let mut answered = BTreeMap::new();
    for _ in 0..ENOUGH {
        // Several at a time, or one worker would answer them all.
        let mut waiting = Vec::new();
        for _ in 0..WORKERS {
            let mut stream = UnixStream::connect(&socket)?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            waiting.push(stream);
        }
        for mut stream in waiting {
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let body = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?.1;
            *answered.entry(body.split(' ').next().unwrap_or_default().parse()?).or_insert(0) += 1;
        }
        if answered.len() == WORKERS {
            return Ok(answered);
        }
    }
    anyhow::bail!("not all workers answer: {answered:?}")
}

impl Session {
    /// Copies of each worker.
    fn copies(&self) -> Result<Vec<u64>> {
        let all = processes(&self.report)?;
        let of_worker = |pid: &u64| {
            let process = all.iter().find(|process| process["pid"] == *pid);
            number(process.with_context(|| format!("worker {pid} is not in the report"))?, "/faults/copy")
        };
        self.answered.keys().map(of_worker).collect()
    }
}

/// A gunicorn whose Python has `gc.freeze()`, and objects that are counted.
fn gunicorn() -> Option<PathBuf> {
    let program = found("gunicorn")?;
    let output = Command::new(&program).arg("--version").output().ok()?;
    output.status.success().then_some(program)
}

#[test]
fn freeze_spares_the_collectors_copies_and_not_those_of_reference_counts() -> Result<()> {
    let _live = live!();
    let Some(gunicorn) = gunicorn() else {
        skip("prefork_python", "gunicorn (Debian: gunicorn) is not installed, or does not start");
        return Ok(());
    };
    let _accounting = Setting::delay_accounting()?;
    let recordings = scratch()?;
    let mut copies = Vec::new();
    for (name, freeze, path) in
        [("plain", false, "/collect"), ("frozen", true, "/collect"), ("read", true, "/read")]
    {
        let place = scratch()?;
        let session = session(place.path(), &recordings.path().join(name), &gunicorn, freeze, path)?;
        // A list that has grown may have been moved by mremap: its first touches have no mapping.
        let mut report = session.report.clone();
        report["lost"]["regions"] = 0.into();
        nothing_lost(&report)?;
        let forks = field(&session.report, "/forks")?.as_array().context("forks is no list")?;
        let workers = forks.iter().filter_map(|fork| fork["child"].as_u64());
        ensure!(session.answered.keys().all(|pid| workers.clone().any(|child| child == *pid)), "{forks:?}");
        copies.push(session.copies()?);
    }
    say(&format!(
        "copies in each worker: collector {:?}, frozen {:?}; frozen, read {:?}",
        copies[0], copies[1], copies[2]
    ));
    let most_frozen = copies[1].iter().max().context("no workers")?;
    for spoilt in [&copies[0], &copies[2]] {
        ensure!(spoilt.iter().all(|pages| *pages > 3 * most_frozen), "{spoilt:?} and {:?}", copies[1]);
    }

    let output = Command::new(cowtrace())
        .args(["diff", "--format", "json"])
        .args(["plain", "frozen"].map(|name| recordings.path().join(name)))
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let diff: Value = serde_json::from_slice(&output.stdout)?;
    let all = |copies: &[u64]| copies.iter().sum::<u64>();
    let (a, b) = (number(&diff, "/totals/copy/a")?, number(&diff, "/totals/copy/b")?);
    ensure!(a >= all(&copies[0]) && b >= all(&copies[1]), "{}", diff["totals"]);
    assert_eq!(diff["totals"]["copy"]["difference"].as_i64(), Some(b.cast_signed() - a.cast_signed()));
    ensure!(diff["totals"]["copy"]["ratio"].as_f64().is_some_and(|ratio| ratio < 0.5), "{}", diff["totals"]);
    Ok(())
}
