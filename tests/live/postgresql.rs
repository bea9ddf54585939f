//! A real PostgreSQL: what one backend costs, against PostgreSQL's own log, the kernel's counts and smaps.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Attached, Listener, Setting, compare, counts_copies, field, found, live, number, page_size, processes,
    regions_sum_up, say, scratch, skip, text,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::attach::{children, nothing_lost, until};

const CONNECTIONS: usize = 20;
/// The user that everybody has; PostgreSQL does not run as root, nor as a user without a name.
const NOBODY: &str = "65534";
const NOT_HERE: &str = "initdb, postgres, pgbench and psql (Debian: postgresql) are not all installed";
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a socket in a folder of its own. Dropped, it is gone.
struct Server {
    postmaster: Child,
    /// Where its programs are.
    programs: PathBuf,
    place: TempDir,
}

/// Debian keeps the server's programs out of PATH.
fn programs() -> Option<PathBuf> {
    let on_path = found("initdb").and_then(|initdb| Some(initdb.parent()?.to_owned()));
    let versions = fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin")).chain(on_path).collect();
    folders.sort();
    let has_all = |folder: &&PathBuf| {
        ["initdb", "postgres", "pgbench", "psql"].iter().all(|name| folder.join(name).is_file())
    };
    folders.iter().rfind(has_all).cloned()
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(program);
    command
}

impl Server {
    /// `None` if it is not installed.
    fn start() -> Result<Option<Server>> {
        let Some(programs) = programs() else { return Ok(None) };
        let place = scratch()?;
        let data = place.path().join("data");
        let made = as_nobody(&programs.join("initdb"))
            .args(["--auth", "trust", "--username", "postgres", "--locale", "C", "--no-sync", "--pgdata"])
            .arg(&data)
            .output()?;
        ensure!(made.status.success(), "initdb: {made:?}");
        let log = File::create(place.path().join("log"))?;
        let postmaster = as_nobody(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(place.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum=off"])
            // Each connection with its backend's id.
            .args(["-c", "log_connections=on", "-c", "log_line_prefix=%p "])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let server = Server { postmaster, programs, place };
        until("answer of the server", || {
            server.client("psql").args(["-c", "select 1"]).output().ok()?.status.success().then_some(())
        })?;
        Ok(Some(server))
    }

    /// `psql` or `pgbench`, with what it takes to get there.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-h").arg(self.place.path()).args(["-U", "postgres"]);
        if program == "psql" {
            command.args(["-X", "-q", "-A", "-t"]);
        }
        command.env("PGDATABASE", "postgres").env_remove("PGPORT");
        command
    }

    fn pgbench(&self, words: &[&str]) -> Result<()> {
        let output = self.client("pgbench").args(words).output()?;
        ensure!(output.status.success(), "pgbench {words:?}: {output:?}");
        Ok(())
    }

    fn attach(&self) -> Result<Attached> {
        Attached::to(&["-p", &self.postmaster.id().to_string()])
    }

    /// The backends of all connections so far, by its log.
    fn connected(&self) -> Result<BTreeSet<u64>> {
        let log = fs::read_to_string(self.place.path().join("log"))?;
        let backend = |line: &str| line.split_once(" LOG:  connection received")?.0.parse().ok();
        Ok(log.lines().filter_map(backend).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A fast shutdown; then the hard way, for which its processes have handlers as well.
        for signal in [libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: a child that is not reaped yet.
            unsafe { libc::kill(self.postmaster.id().cast_signed(), signal) };
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end {
                if !matches!(self.postmaster.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.postmaster.kill();
        let _ = self.postmaster.wait();
    }
}

#[test]
fn a_backend_costs_what_the_kernel_counts() -> Result<()> {
    let _live = live!();
    // Before the server starts: it counts only in tasks that start later.
    let _accounting = Setting::delay_accounting()?;
    let Some(server) = Server::start()? else {
        skip("postgresql", NOT_HERE);
        return Ok(());
    };
    server.pgbench(&["-i", "-q", "-s", "1"])?;
    let before = server.connected()?;
    let resident = until("rest of the server", || {
        let alive: BTreeSet<u64> = children(server.postmaster.id()).into_iter().map(u64::from).collect();
        alive.is_disjoint(&before).then_some(alive)
    })?;
    let listener = Listener::start()?;
    let attached = server.attach()?;
    let connections = CONNECTIONS.to_string();
    server.pgbench(&["-c", &connections, "-T", "2"])?;
    until("end of the backends", || {
        (children(server.postmaster.id()).len() == resident.len()).then_some(())
    })?;
    attached.interrupt()?;
    let report = attached.report()?;
    let exited = listener.finish()?;

    nothing_lost(&report)?;
    regions_sum_up(&report)?;
    if counts_copies() {
        let compared = compare(&report, &exited)?;
        compared.say("PostgreSQL");
        compared.exact()?;
    }
    let backends: BTreeSet<u64> = server.connected()?.difference(&before).copied().collect();
    // One more for pgbench's own questions.
    assert_eq!(backends.len(), CONNECTIONS + 1, "by the log of PostgreSQL");
    let postmaster = server.postmaster.id();
    let forks = field(&report, "/forks")?.as_array().context("forks is no list")?;
    let forked = forks.iter().filter(|fork| fork["parent"] == postmaster);
    assert_eq!(forked.filter_map(|fork| fork["child"].as_u64()).collect::<BTreeSet<_>>(), backends);
    for process in processes(&report)? {
        for region in process["regions"].as_array().context("regions is no list")? {
            let is_shared = text(region, "/perms")?.ends_with('s');
            ensure!(!is_shared || region["faults"]["copy"] == 0, "a copy in shared memory: {region}");
        }
    }
    for fork in forks {
        ensure!(number(fork, "/child_copied_bytes")? >= 16 * page_size(), "{fork}");
        assert_eq!((text(fork, "/kind")?, text(fork, "/ended_by")?), ("fork", "exit"));
    }
    Ok(())
}

/// Sum of Private_Dirty of the mappings that are private, kB.
fn private_dirty(pid: u64) -> Result<u64> {
    let mut is_private = false;
    let mut sum = 0;
    for line in fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Private_Dirty:"), Some(kb)) if is_private => sum += kb.parse::<u64>()?,
            (Some(first), Some(perms)) if !first.ends_with(':') => is_private = perms.ends_with('p'),
            _ => {}
        }
    }
    Ok(sum)
}

#[test]
fn an_idle_backend_has_what_smaps_calls_its_own() -> Result<()> {
    let _live = live!();
    let Some(server) = Server::start()? else {
        skip("postgresql", NOT_HERE);
        return Ok(());
    };
    let attached = server.attach()?;
    let mut client = server.client("psql").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = client.stdin.take().context("no standard input")?;
    writeln!(input, "select pg_backend_pid();")?;
    let mut answer = String::new();
    BufReader::new(client.stdout.take().context("no standard output")?).read_line(&mut answer)?;
    let backend: u64 = answer.trim().parse().with_context(|| format!("no process id: {answer:?}"))?;
    // It goes to sleep after its answer.
    until("sleep of the backend", || {
        fs::read_to_string(format!("/proc/{backend}/wchan")).ok()?.contains("poll").then_some(())
    })?;
    let smaps_kb = private_dirty(backend)?;
    attached.interrupt()?;
    let report = attached.report()?;
    drop(input);
    ensure!(client.wait()?.success(), "psql failed");
    nothing_lost(&report)?;
    let is_it = |process: &&Value| process["pid"] == backend;
    let process = processes(&report)?.into_iter().find(is_it).context("the backend is not in the report")?;
    let pages =
        ["copy", "zero", "file", "anon", "reuse"].map(|kind| number(process, &format!("/faults/{kind}")));
    let kb = pages.into_iter().sum::<Result<u64>>()? * page_size() / 1024;
    say(&format!("an idle backend: {kb} kB by its faults, {smaps_kb} kB Private_Dirty"));
    ensure!(kb.abs_diff(smaps_kb) * 100 <= smaps_kb * 2, "{kb} kB counted, {smaps_kb} kB in smaps");
    Ok(())
}
