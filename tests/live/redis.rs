//! A real Redis that saves a snapshot under writes: the bill of its fork, against Redis' own figures.

use std::{
    io::{Read as _, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{Attached, field, found, live, number, say, scratch, skip};
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
    let attached = Attached::to(&["-p", &redis.server.id().to_string()])?;
    let saved = redis.save_under_writes();
    attached.interrupt()?;
    let report = attached.report()?;
    saved?;
    check(&redis, &report)
}

fn check(redis: &Redis, report: &Value) -> Result<()> {
    let lost = field(report, "/lost")?;
    ensure!(lost.as_object().is_some_and(|lost| lost.values().all(|count| count == 0)), "{lost}");
    let fork = field(report, "/forks/0")?;
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
    let regions = fork["regions"].as_array().context("no regions")?;
    let in_regions = regions.iter().map(total).sum::<Result<u64>>()?;
    // Windows of up to 64 pages reach over the begin and the end of the sharing.
    ensure!(in_regions.abs_diff(copied) * 100 <= copied * 5, "{in_regions} bytes in regions of {copied}");
    Ok(())
}

/// Keys, and the bytes of each one's value: a dataset of some 80 MB.
const FORECAST_KEYS: u64 = 300_000;
const VALUE: [u8; 200] = [b'x'; 200];
/// Writes in one go, and per second.
const PIPELINE: u64 = 50;
const WRITES_PER_SECOND: u64 = 8_000;

/// Sets these keys, and waits for the answers.
fn set(socket: &mut UnixStream, keys: impl Iterator<Item = u64>) -> Result<()> {
    let (mut request, mut answers) = (Vec::new(), 0);
    for key in keys {
        write!(request, "*3\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n${}\r\n", VALUE.len())?;
        request.extend_from_slice(&VALUE);
        request.extend_from_slice(b"\r\n");
        answers += b"+OK\r\n".len();
    }
    socket.write_all(&request)?;
    socket.read_exact(&mut vec![0; answers])?;
    Ok(())
}

/// Numbers that need not be good, and are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Writes at an even rate until it is told to stop.
fn write_on(socket: &Path, mut key: impl FnMut(&mut Random) -> u64, stop: &AtomicBool) -> Result<()> {
    let mut socket = UnixStream::connect(socket)?;
    let mut random = Random(88_172_645_463_325_252);
    let (begin, mut written) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        set(&mut socket, (0..PIPELINE).map(|_| key(&mut random)))?;
        written += PIPELINE;
        let due =
            begin + Duration::from_secs(1) * u32::try_from(written)? / u32::try_from(WRITES_PER_SECOND)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Saves in the background, and waits for the end.
fn save(redis: &Redis) -> Result<()> {
    redis.ask(&["bgsave"])?;
    let end = Instant::now() + LIMIT;
    while redis.info("persistence", "rdb_bgsave_in_progress")? == 1 {
        ensure!(Instant::now() < end, "the save does not end");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn foreseen(name: &str, key: impl FnMut(&mut Random) -> u64 + Send) -> Result<()> {
    let Some(redis) = Redis::start()? else {
        skip("redis", "redis-server or redis-tools is not installed");
        return Ok(());
    };
    redis.ask(&["config", "set", "rdb-key-save-delay", "-3"])?;
    let mut socket = UnixStream::connect(redis.socket())?;
    // In no order, so that neighbours in memory are no neighbours in the keys.
    let mut keys: Vec<u64> = (0..FORECAST_KEYS).collect();
    let mut random = Random(1);
    for place in (1..keys.len()).rev() {
        keys.swap(place, usize::try_from(random.below(place as u64 + 1))?);
    }
    for keys in keys.chunks(1000) {
        set(&mut socket, keys.iter().copied())?;
    }
    let stop = AtomicBool::new(false);
    let report = thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(&redis.socket(), key, &stop));
        let traced = || {
            let attached = Attached::to(&["--forecast", "-p", &redis.server.id().to_string()])?;
            // The first one tells how long it takes.
            let saved = save(&redis).and_then(|()| save(&redis));
            attached.interrupt()?;
            saved.and_then(|()| attached.report())
        };
        let report = traced();
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        report
    })?;
    let forks = report["forks"].as_array().context("no forks")?;
    ensure!(forks.len() == 2 && forks[0].get("forecasts").is_none(), "{} forks", forks.len());
    let (begin, life) = (number(&forks[1], "/at_ns")?, number(&forks[1], "/lifetime_ns")?);
    let became = number(&forks[1], "/extra_peak_bytes")?;
    let forecasts = forks[1]["forecasts"].as_array().context("no forecasts")?;
    let quarter = forecasts
        .iter()
        .min_by_key(|forecast| forecast["at_ns"].as_u64().unwrap_or(0).abs_diff(begin + life / 4))
        .context("no forecast")?;
    let figure = |name: &str| number(quarter, name);
    let (expected, at) = (figure("/expected_bytes")?, figure("/at_ns")? - begin);
    say(&format!(
        "{name}: after {} of {} ms, {expected} bytes were expected; it became {became}",
        at / 1_000_000,
        life / 1_000_000
    ));
    ensure!(at.abs_diff(life / 4) * 10 <= life, "the nearest forecast was after {at} ns of {life}");
    ensure!(expected.abs_diff(became) * 100 <= became * 15, "{expected} bytes expected, {became} copied");
    ensure!((figure("/low_bytes")?..=figure("/high_bytes")?).contains(&became), "{quarter}");
    Ok(())
}

#[test]
fn uniform_writes_are_foreseen() -> Result<()> {
    let _live = live!();
    foreseen("uniform", |random| random.below(FORECAST_KEYS))
}

#[test]
fn hot_keys_are_foreseen() -> Result<()> {
    let _live = live!();
    // Nine of ten writes go to one key in twenty.
    foreseen("hot", |random| {
        let bound = if random.below(10) < 9 { FORECAST_KEYS / 20 } else { FORECAST_KEYS };
        random.below(bound)
    })
}
