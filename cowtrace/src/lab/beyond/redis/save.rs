//! The course of the experiment: fill, save, write meanwhile, write again.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use cowtrace_abi::Kind;
use serde_json::Value;

use super::server::{Info, Installed, Server};
use crate::{
    lab::{
        experiment::Lab,
        story::{CHILD, Checkpoint, Observed, PARENT, Story},
    },
    model::Counts,
    proc::{Vma, read_smaps},
};

/// Bytes of a value; with Redis' own header just below 1 KiB.
pub(super) const VALUE_BYTES: u64 = 1000;
/// Bytes of `--size` for each key.
const KEY_BYTES: u64 = 1024;
/// Of the keys, this part is written during the save: one in so many.
const WRITTEN: u64 = 10;
/// In so many rounds.
const ROUNDS: u64 = 5;
/// From one round to the next, at least.
const PAUSE: Duration = Duration::from_millis(200);
/// Commands sent at once.
const BATCH: u64 = 128;

/// Sleeps of the saving child, of 50 to 100 us each: with these the save outlasts the rounds.
const SLEEPS: u64 = 44_000;
/// Keys from one sleep to the next, at most: writing must not take longer than saving, whatever the size.
const MOST_KEYS_PER_SLEEP: u64 = 12;
/// A sleep takes this much longer than asked for (the kernel's timer slack), us.
const SLACK_US: u64 = 50;

// Names of checkpoints.
pub(super) const LOADED: &str = "loaded";
pub(super) const FORKED: &str = "forked";
pub(super) const SAVED: &str = "saved";
pub(super) const AGAIN: &str = "written again";

/// What became of it.
pub(super) struct Save {
    pub version: String,
    pub keys: u64,
    /// Keys written during the save, in all and in each round.
    pub written: u64,
    pub round: u64,
    /// Keys written when the child was gone.
    pub written_again: u64,
    /// The server's own account of the save.
    pub info: Info,
    /// Seconds from the fork to each checkpoint from [`FORKED`] on.
    pub times: Vec<f64>,
    /// Seconds since the fork, and `current_cow_size` then, bytes.
    pub cow_sizes: Vec<(f64, u64)>,
    /// Seconds from the fork to the end of the save.
    pub duration: f64,
    pub story: Story,
    pub report: Value,
}

impl Save {
    pub fn run(lab: &mut Lab<'_>, installed: Installed) -> anyhow::Result<Save> {
        let keys = lab.size_bytes / KEY_BYTES;
        let round = keys / WRITTEN / ROUNDS;
        let version = installed.version.clone();
        let mut server = installed.start(lab, key_delay(keys))?;
        server.service.observe("started")?;
        let mut writer = Writer { keys, random: 1 };
        lab.progress(format!("filling {version} with {keys} keys"));
        writer.fill(&mut server)?;
        show_data(&mut server)?;
        server.service.observe(LOADED)?;

        lab.progress("saving");
        server.client.command(&["BGSAVE"])?;
        let clock = Instant::now();
        let seconds = || clock.elapsed().as_secs_f64();
        let mut times = vec![seconds()];
        server.service.observe(FORKED)?;
        server.service.pid(CHILD).context("the server said that it saves, but has no child")?;
        let mut cow_sizes = Vec::new();
        let mut written = 0;
        for number in 1..=ROUNDS {
            writer.write(&mut server, round)?;
            let info = server.info()?;
            if info.number("rdb_bgsave_in_progress")? == 0 {
                break;
            }
            written += round;
            note_cow_size(&info, seconds(), &mut cow_sizes)?;
            times.push(seconds());
            server.service.observe(format!("round {number}"))?;
            server.service.wait(PAUSE)?;
        }
        let patience = Duration::from_secs(60) + Duration::from_micros(100) * u32::try_from(keys)?;
        let info = server.wait_for_save(patience, |info| note_cow_size(info, seconds(), &mut cow_sizes))?;
        let duration = seconds();
        server.service.observe(SAVED)?;

        writer.write(&mut server, round)?;
        server.service.observe(AGAIN)?;
        let (story, report) = server.finish()?;
        let written_again = round;
        Ok(Save {
            version,
            keys,
            written,
            round,
            written_again,
            info,
            times,
            cow_sizes,
            duration,
            story,
            report,
        })
    }

    /// The last moment at which both were there.
    pub fn last_of_both(&self) -> Option<&Checkpoint> {
        self.story.checkpoints.iter().rev().find(|checkpoint| checkpoint.process(CHILD).is_some())
    }

    /// Faults of this kind of a process, from one checkpoint to another.
    pub fn faults(&self, role: usize, kind: Kind, from: &Checkpoint, to: &Checkpoint) -> Option<u64> {
        let counts = |checkpoint: &Checkpoint| checkpoint.process(role).map(|process| process.counts);
        // A child that was not there yet had none.
        let before = counts(from).unwrap_or(Counts::default());
        Some(counts(to)?.of(kind) - before.of(kind))
    }

    /// Faults of this kind of both, from the checkpoint before the fork to this one.
    pub fn faults_of_both(&self, kind: Kind, to: &Checkpoint) -> Option<u64> {
        let loaded = self.story.checkpoint(LOADED)?;
        Some(self.faults(PARENT, kind, loaded, to)? + self.faults(CHILD, kind, loaded, to)?)
    }

    pub fn page_size(&self) -> u64 {
        let first = self.story.checkpoints.first().and_then(|checkpoint| checkpoint.process(PARENT));
        first.map_or(4096, |process| process.snapshot.page_size)
    }
}

/// Private_Dirty of a process, kB.
pub(super) fn private_dirty_kb(process: &Observed) -> u64 {
    process.snapshot.vmas.iter().map(|vma| vma.private_dirty_kb).sum()
}

/// Lets the report show the largest of the server's mappings.
fn show_data(server: &mut Server) -> anyhow::Result<()> {
    let pid = server.service.pid(PARENT).context("the server is gone")?;
    let anonymous = |vma: &Vma| vma.ordinary && !vma.name.starts_with('/');
    let data = read_smaps(pid)?.into_iter().filter(anonymous).max_by_key(|vma| vma.rss_kb);
    if let Some(vma) = data {
        server.service.buffer(vma.start..vma.end);
    }
    Ok(())
}

/// A new figure each time that the child has told one.
fn note_cow_size(info: &Info, seconds: f64, cow_sizes: &mut Vec<(f64, u64)>) -> anyhow::Result<()> {
    let size = info.number("current_cow_size")?;
    if size > 0 && cow_sizes.last().is_none_or(|&(_, last)| last != size) {
        cow_sizes.push((seconds, size));
    }
    Ok(())
}

/// `rdb-key-save-delay`: microseconds to sleep after each key, or, negative, one microsecond after about so many keys.
fn key_delay(keys: u64) -> i64 {
    let per_sleep = ((keys + SLEEPS / 2) / SLEEPS).min(MOST_KEYS_PER_SLEEP);
    if per_sleep >= 2 {
        return -per_sleep.cast_signed();
    }
    let all_us = SLEEPS * SLACK_US;
    (all_us / keys.max(1)).saturating_sub(SLACK_US).max(1).cast_signed()
}

/// Sets keys.
struct Writer {
    keys: u64,
    random: u64,
}

impl Writer {
    fn fill(&mut self, server: &mut Server) -> anyhow::Result<()> {
        self.set_each(server, 0..self.keys)
    }

    /// So many keys at random, some perhaps twice.
    fn write(&mut self, server: &mut Server, count: u64) -> anyhow::Result<()> {
        let chosen: Vec<u64> = (0..count).map(|_| self.next()).collect();
        self.set_each(server, chosen.into_iter())
    }

    fn set_each(&self, server: &mut Server, keys: impl Iterator<Item = u64>) -> anyhow::Result<()> {
        // Easily compressed, so that the file is small.
        let value = [b'v'; VALUE_BYTES as usize];
        for (number, key) in (1..).zip(keys) {
            server.client.put(&[b"SET", format!("key:{key:012}").as_bytes(), &value]);
            if number % BATCH == 0 {
                server.client.send()?;
                server.service.meanwhile()?;
            }
        }
        server.client.send()?;
        Ok(())
    }

    /// The same keys in each run.
    fn next(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_save_outlasts_the_rounds_at_any_size() {
        for mebibytes in [32, 64, 128, 512, 4096] {
            let keys = (mebibytes << 20) / KEY_BYTES;
            let delay = key_delay(keys);
            let sleeps = if delay > 0 { keys } else { keys / delay.unsigned_abs() };
            let us = sleeps * (SLACK_US + delay.max(1).unsigned_abs());
            assert!(us >= 2_000_000, "{mebibytes} MiB: {us} us");
            assert!(us >= 4 * keys, "{mebibytes} MiB: {us} us for {keys} keys");
        }
        assert_eq!(key_delay(131_072), -3);
    }

    #[test]
    fn keys_are_spread_over_all() {
        let mut writer = Writer { keys: 1000, random: 1 };
        let drawn: Vec<u64> = (0..1000).map(|_| writer.next()).collect();
        let mut distinct = drawn.clone();
        distinct.sort_unstable();
        distinct.dedup();
        // N (1 - 1/e), give or take.
        assert!((600..665).contains(&distinct.len()), "{}", distinct.len());
        assert!(drawn.iter().all(|&key| key < 1000));
    }
}
