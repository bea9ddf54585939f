//! A real Redis that saves a snapshot under writes: the bill of its fork, against Redis' own figures.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{field, finish, found, live, number, say, scratch, skip, tracer};
use serde_json::Value;
use tempfile::TempDir;

const KEYS: &str = "600000";
const LIMIT: Duration = Duration::from_secs(60);

/// A server on a socket in a folder of its own. Dropped, it is gone.
struct Redis {
    server: Child,
    place: TempDir,
}

impl Redis {
    /// `None` if it is not installed.
    fn start() -> Result<Option<Redis>> {
        let tools = ["redis-cli", "redis-benchmark"].map(found);
        let program = found("redis-server").or_else(|| found("redis-check-rdb"));
        let (Some(program), [Some(_), Some(_)]) = (program, tools) else { return Ok(None) };
        let place = scratch()?;
        let server = Command::new(program)
            .arg0("redis-server")
            .args(["--port", "0", "--save", "", "--rdbcompression", "no", "--enable-debug-command", "yes"])
            // Some 4 s for the save: one pause of the least length in ten keys.
            .args(["--rdb-key-save-delay", "-10"])
            .arg("--unixsocket")
            .arg(place.path().join("socket"))
            .arg("--dir")
            .arg(place.path())
            .stdout(Stdio::null())
            .spawn()?;
        let redis = Redis { server, place };
        let end = Instant::now() + LIMIT;
        while redis.ask(&["ping"]).map_or(true, |answer| answer.trim() != "PONG") {
            ensure!(Instant::now() < end, "redis-server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(redis))
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("socket")
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(words).output()?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A number of INFO.
    fn info(&self, section: &str, name: &str) -> Result<u64> {
        let info = self.ask(&["info", section])?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("no {name} in {info}"))?.trim().parse()?)
    }

    /// Saves in the background, while other keys than the old ones are written.
    fn save_under_writes(&self) -> Result<()> {
        self.ask(&["bgsave"])?;
        let end = Instant::now() + LIMIT;
        while self.info("persistence", "rdb_bgsave_in_progress")? == 1 {
            ensure!(Instant::now() < end, "the save does not end");
            let status = Command::new("redis-benchmark")
                .arg("-s")
                .arg(self.socket())
                .args(["-t", "set", "-r", KEYS, "-n", "20000", "-q"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            ensure!(status.success(), "redis-benchmark: {status}");
        }
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn near(what: &str, ours: u64, theirs: u64, percent: u64) -> Result<()> {
    say(&format!("{what}: {ours} counted, {theirs} by Redis"));
    ensure!(ours.abs_diff(theirs) * 100 <= theirs * percent, "{what}: {ours}, but {theirs} by Redis");
    Ok(())
}

#[test]
fn the_bill_of_a_snapshot_is_that_of_redis() -> Result<()> {
    let _live = live!();
    let Some(redis) = Redis::start()? else {
        skip("redis", "redis-server or redis-tools is not installed");
        return Ok(());
    };
    redis.ask(&["debug", "populate", KEYS, "key", "256"])?;
    let file = redis.place.path().join("report.json");
    let mut tracer = tracer("attach")
        .args(["-p", &redis.server.id().to_string(), "--format", "json", "-o"])
        .arg(&file)
        .process_group(0)
        .stderr(Stdio::piped())
        .spawn()?;
    wait_until_attached(&mut tracer)?;
    let saved = redis.save_under_writes();
    // SAFETY: a child that is not reaped yet.
    ensure!(unsafe { libc::kill(tracer.id().cast_signed(), libc::SIGINT) } == 0, "no signal can be sent");
    let output = finish(tracer, LIMIT)?;
    saved?;
    ensure!(output.status.success(), "{output:?}");
    check(&redis, &file)
}

/// Its first line tells that.
fn wait_until_attached(tracer: &mut Child) -> Result<()> {
    use std::io::Read as _;
    let stderr = tracer.stderr.as_mut().context("no standard error")?;
    let mut byte = [0];
    let mut said = Vec::new();
    while byte[0] != b'\n' && stderr.read(&mut byte)? == 1 {
        said.push(byte[0]);
    }
    ensure!(said.starts_with(b"cowtrace: attached"), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

fn check(redis: &Redis, file: &Path) -> Result<()> {
    let report: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let lost = field(&report, "/lost")?;
    ensure!(lost.as_object().is_some_and(|lost| lost.values().all(|count| count == 0)), "{lost}");
    let fork = field(&report, "/forks/0")?;
    assert_eq!((&fork["kind"], &fork["ended_by"]), (&"fork".into(), &"exit".into()));
    let copied = number(fork, "/extra_peak_bytes")?;
    near("bytes copied because of the fork", copied, redis.info("persistence", "rdb_last_cow_size")?, 8)?;
    near("µs for fork()", number(fork, "/fork_ns")? / 1000, redis.info("stats", "latest_fork_usec")?, 50)?;
    assert_eq!(number(fork, "/extra_now_bytes")?, 0, "one of two copies is given back");
    let series = fork["series"].as_array().context("no series")?;
    ensure!(series.len() >= 3, "only {} moments", series.len());
    let total = |moment: &Value| {
        Ok::<u64, anyhow::Error>(
            number(moment, "/parent_copied_bytes")? + number(moment, "/child_copied_bytes")?,
        )
    };
    let totals = series.iter().map(total).collect::<Result<Vec<u64>>>()?;
    ensure!(totals.is_sorted() && totals.last() == Some(&copied), "{totals:?}");
    Ok(())
}
