//! When snapshots are taken, and the thread that writes them: a slow disk must not hold up the tracing.

use std::{
    fs, io,
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{SigSet, Signal},
        time::TimeValLike as _,
    },
    time::{ClockId, clock_gettime},
};
use rusqlite::ErrorCode;

use super::{
    RecordError,
    write::{Cost, Writer},
};
use crate::model::Snapshot;

/// Time between two snapshots, unless they are too costly.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest that it may become.
const LONGEST_INTERVAL: Duration = Duration::from_secs(64);
/// The part of an interval that a snapshot may take, before the interval is doubled: one in so many.
const DUTY: u32 = 20;

/// Makes a recording.
pub struct Recorder {
    path: PathBuf,
    state: State,
    schedule: Schedule,
    /// CPU time that it took to take the snapshot that is being written.
    taking: Duration,
    /// The last snapshot was left out, so that the next one must have what it had.
    behind: bool,
}

enum State {
    Running { jobs: Sender<Job>, answers: Receiver<Answer>, busy: bool },
    Gone,
}

struct Job {
    snapshot: Snapshot,
    cost: Cost,
}

/// CPU time that writing took, or why it failed.
type Answer = Result<Duration, rusqlite::Error>;

/// What a recording came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Snapshots, the last one included.
    pub snapshots: u64,
    /// CPU time that they took, without the last one.
    pub took: Duration,
    /// Time between two of them at the end.
    pub interval: Duration,
    /// Size of the file, bytes.
    pub file_bytes: u64,
}

impl Recorder {
    /// Starts the thread that writes with this.
    pub(super) fn start(path: PathBuf, mut writer: Writer) -> Result<Recorder, RecordError> {
        let (jobs, queue) = channel::<Job>();
        let (answer, answers) = channel();
        let work = move || {
            // A limit on the size of files (`ulimit -f`) is told by the answer, and must not end the tracing by a signal.
            let mut too_large = SigSet::empty();
            too_large.add(Signal::SIGXFSZ);
            if let Err(error) = too_large.thread_block() {
                tracing::warn!("cannot block SIGXFSZ: {error}");
            }
            for job in queue {
                let begin = thread_cpu();
                let outcome = writer.snapshot(&job.snapshot, &job.cost);
                drop(job);
                if answer.send(outcome.map(|()| thread_cpu().saturating_sub(begin))).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("recording".to_owned()).spawn(work);
        thread.map_err(|answer| RecordError::Thread { answer })?;
        Ok(Recorder {
            path,
            state: State::Running { jobs, answers, busy: false },
            schedule: Schedule::new(Instant::now()),
            taking: Duration::ZERO,
            behind: true,
        })
    }

    /// To be called often: takes a snapshot whenever one is due, or `urgent`, and tells what became of those before. `take` is
    /// told whether the snapshot must have everything.
    pub fn round<E: From<RecordError>>(
        &mut self,
        urgent: bool,
        take: impl FnOnce(bool) -> Result<Snapshot, E>,
    ) -> Result<(), E> {
        self.collect_answer(false, true)?;
        let now = Instant::now();
        if matches!(self.state, State::Running { busy: true, .. }) || !(urgent || self.schedule.is_due(now)) {
            return Ok(());
        }
        let begin = thread_cpu();
        let snapshot = take(self.behind)?;
        self.behind = false;
        self.taking = thread_cpu().saturating_sub(begin);
        self.schedule.began(now);
        Ok(self.send(snapshot)?)
    }

    /// Writes the whole report, and waits until it is on the disk.
    pub fn finish(mut self, whole: Snapshot) -> Result<Summary, RecordError> {
        self.collect_answer(true, true)?;
        let cost = self.schedule.cost;
        self.taking = Duration::ZERO;
        self.send(whole)?;
        self.collect_answer(true, false)?;
        Ok(Summary {
            snapshots: self.schedule.cost.snapshots,
            took: Duration::from_nanos(cost.total_ns),
            interval: self.schedule.interval,
            file_bytes: fs::metadata(&self.path).map(|file| file.len()).unwrap_or_default(),
        })
    }

    /// Takes the thread's answer; with `wait`, waits for one that is still to come. `another`: another snapshot will have what
    /// this one could not write because the file was locked.
    fn collect_answer(&mut self, wait: bool, another: bool) -> Result<(), RecordError> {
        let State::Running { answers, busy, .. } = &mut self.state else { return Ok(()) };
        if !*busy {
            return Ok(());
        }
        let answer = match wait {
            true => answers.recv().map_err(|_| TryRecvError::Disconnected),
            false => answers.try_recv(),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => {
                self.state = State::Gone;
                let answer = io::Error::other("it has ended");
                return Err(RecordError::Thread { answer });
            }
        };
        *busy = false;
        match answer {
            Ok(writing) => {
                tracing::debug!("snapshot: {:.1?} to take, {writing:.1?} to write", self.taking);
                self.schedule.took(self.taking + writing);
                Ok(())
            }
            // Somebody reads the file, and long.
            Err(error) if another && error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                tracing::warn!("{} is locked: a snapshot is left out", self.path.display());
                self.behind = true;
                Ok(())
            }
            Err(answer) => Err(RecordError::Write { path: self.path.clone(), answer }),
        }
    }

    fn send(&mut self, snapshot: Snapshot) -> Result<(), RecordError> {
        let gone = || RecordError::Thread { answer: io::Error::other("it has ended") };
        let State::Running { jobs, busy, .. } = &mut self.state else { return Err(gone()) };
        *busy = true;
        jobs.send(Job { snapshot, cost: self.schedule.cost }).map_err(|_| gone())
    }
}

/// CPU time of this thread: waiting for the disk, or for others on the CPU, is no cost.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(|time| time.num_nanoseconds());
    Duration::from_nanos(time.map(i64::unsigned_abs).unwrap_or_default())
}

/// When the next snapshot is due.
#[derive(Debug)]
struct Schedule {
    due: Instant,
    last: Instant,
    interval: Duration,
    cost: Cost,
}

impl Schedule {
    /// The first one is due at once.
    fn new(now: Instant) -> Schedule {
        let interval_ns = nanoseconds(INTERVAL);
        Schedule { due: now, last: now, interval: INTERVAL, cost: Cost { interval_ns, ..Cost::default() } }
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    fn began(&mut self, now: Instant) {
        self.last = now;
        self.due = now + self.interval;
    }

    /// Accounts for a snapshot. One that takes too much of the interval makes it longer.
    fn took(&mut self, time: Duration) {
        self.cost.snapshots += 1;
        self.cost.total_ns += nanoseconds(time);
        self.cost.longest_ns = self.cost.longest_ns.max(nanoseconds(time));
        if time * DUTY > self.interval && self.interval < LONGEST_INTERVAL {
            self.interval *= 2;
            self.cost.interval_ns = nanoseconds(self.interval);
            self.due = self.last + self.interval;
            tracing::info!("a snapshot took {time:.1?}: the next ones come each {:?}", self.interval);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costly_snapshots_come_less_often() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert!(schedule.is_due(start));
        schedule.began(start);
        assert!(!schedule.is_due(start + INTERVAL / 2) && schedule.is_due(start + INTERVAL));
        schedule.took(Duration::from_millis(50));
        assert_eq!(schedule.interval, INTERVAL);
        schedule.took(Duration::from_millis(51));
        assert_eq!(schedule.interval, 2 * INTERVAL);
        assert!(!schedule.is_due(start + INTERVAL) && schedule.is_due(start + 2 * INTERVAL));
        for _ in 0..20 {
            schedule.took(Duration::from_secs(1000));
        }
        assert_eq!(schedule.interval, LONGEST_INTERVAL);
        assert_eq!((schedule.cost.snapshots, schedule.cost.interval_ns), (22, 64_000_000_000));
    }
}
