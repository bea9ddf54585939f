//! `cargo xtask vm`: the lab and live tests on Debian's kernels, in virtual machines, on every backend.

mod cell;
pub mod disk;
mod docs;
pub mod guest;
mod initrd;
mod judge;
pub mod kernels;
mod lab;
mod plan;
mod prepare;
pub mod qemu;
mod suite;
mod table;
pub mod tools;
pub mod userland;

use std::{
    collections::VecDeque,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;
use cell::Cell;
use kernels::{LINES, Line};
use plan::{BACKENDS, Choice, Row};
use prepare::Guests;
use qemu::Acceleration;

/// More would be in each other's way on a usual machine; each of them runs on one processor.
const GUESTS_AT_ONCE: usize = 2;
/// Last lines of a console that are shown of a guest that is broken.
const TAIL: usize = 12;

/// Options of `vm`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Backends to try [default: fentry, kprobe, tracepoint]
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(BACKENDS))]
    backends: Vec<String>,
    /// Experiments of the lab to run, instead of the planned ones
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    lab: Vec<String>,
    /// Live tests to run: those whose name contains one of these, instead of the planned ones
    #[arg(long, value_delimiter = ',', value_name = "FILTER")]
    tests: Vec<String>,
    /// Run all live tests that a guest can run, however long it takes, and no lab but what --lab names
    #[arg(long, conflicts_with_all = ["tests", "write_docs"])]
    whole_suite: bool,
    /// Put the table into docs/compatibility.md
    #[arg(long)]
    write_docs: bool,
    /// Kernels to boot: 5.10, 6.1, 6.12, 7.2, 6.1-arm64, 6.12-arm64, 6.12-arm64-16k (default: those
    /// of amd64, and 6.12-arm64 where programs for it can be built)
    #[arg(value_name = "KERNEL", value_parser = line)]
    kernels: Vec<Line>,
}

impl Args {
    /// What is part of the tests.
    pub fn for_tests() -> Args {
        Args { kernels: plan::planned(), ..Args::default() }
    }
}

/// The kernel line of this name, for command lines.
pub fn line(name: &str) -> Result<Line, String> {
    let names = LINES.map(|line| line.name).join(", ");
    LINES.into_iter().find(|line| line.name == name).ok_or_else(|| format!("the kernels are {names}"))
}

/// The command; fails if anything on any kernel is not as it should be.
pub fn command(args: &Args) -> Result<ExitCode> {
    let started = Instant::now();
    let cache = kernels::cache()?;
    let _only_one = lock(&cache)?;
    let lines = if args.kernels.is_empty() {
        prepare::buildable(plan::planned_and_foreign())
    } else {
        args.kernels.clone()
    };
    let mut guests = Vec::new();
    for arch in Arch::ALL {
        let lines: Vec<Line> = lines.iter().copied().filter(|line| line.arch == arch).collect();
        if !lines.is_empty() {
            guests.push(Guests::of(arch, &lines, &cache)?);
        }
    }
    let choice = Choice {
        backends: args.backends.clone(),
        lab: args.lab.clone(),
        tests: args.tests.clone(),
        whole_suite: args.whole_suite,
    };
    let rows = plan::rows(&lines, &choice);
    let emulated = guests.iter().filter(|guests| guests.how == Acceleration::Tcg);
    let emulated: usize = emulated.map(|guests| guests.images.len()).sum();
    eprintln!(
        "vm: {} guests, {GUESTS_AT_ONCE} at a time, {emulated} of {} kernels in emulation; built after {}",
        rows.len(),
        lines.len(),
        seconds(started)
    );
    let limits = match &choice {
        Choice { whole_suite: true, .. } => Limits::WHOLE_SUITE,
        choice if choice.lab.is_empty() && choice.tests.is_empty() => Limits::PLANNED,
        _ => Limits::CHOSEN,
    };
    let cells = Booting { guests: &guests, cache: &cache, limits }.all(&rows)?;
    // What is wrong is in the table as well.
    if args.write_docs {
        docs::write(&cells)?;
    }
    report(&rows, &cells, started)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the table, what is explained and what is wrong; an error if anything is.
fn report(rows: &[Row], cells: &[Cell], started: Instant) -> Result<()> {
    let judgement = judge::judge(rows, cells);
    println!("\n{}", table::text(cells));
    print!("{}", suite::text(rows, cells));
    for explained in &judgement.explained {
        println!("explained: {explained}");
    }
    for problem in &judgement.problems {
        println!("WRONG: {problem}");
    }
    println!("{} backends on {} guests, {}", cells.len(), rows.len(), seconds(started));
    if !judgement.problems.is_empty() {
        bail!("{} things are not as they should be on other kernels", judgement.problems.len());
    }
    Ok(())
}

fn seconds(since: Instant) -> String {
    format!("{:.0} s", since.elapsed().as_secs_f64())
}

/// Two runs at once would write to the same files.
fn lock(cache: &Path) -> Result<File> {
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("vm: another run has {}; waiting for its end", path.display());
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Time limits.
#[derive(Clone, Copy)]
struct Limits {
    /// Of a guest.
    guest: Duration,
    /// Of the lab, and of the tests, on one backend; in the whole suite, of each test.
    command: Duration,
}

impl Limits {
    /// Several times what is planned needs.
    const PLANNED: Limits = Limits { guest: Duration::from_secs(900), command: Duration::from_secs(300) };
    /// What is chosen may need any time.
    const CHOSEN: Limits = Limits { guest: Duration::from_secs(3600), command: Duration::from_secs(1200) };
    /// Hours, in emulation; a test that is not done after this hangs.
    const WHOLE_SUITE: Limits =
        Limits { guest: Duration::from_secs(6 * 3600), command: Duration::from_secs(400) };
}

/// What all guests have in common.
struct Booting<'a> {
    guests: &'a [Guests],
    cache: &'a Path,
    limits: Limits,
}

impl<'a> Booting<'a> {
    /// Boots all, some at a time; the cells are in the order of the rows.
    fn all(&self, rows: &[Row]) -> Result<Vec<Cell>> {
        // Those that take longest first, so that none is left over at the end.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(rows.get(index).map_or(0, work)));
        let queue = Mutex::new(VecDeque::from(order));
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..GUESTS_AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some((index, row)) = next.and_then(|index| Some((index, rows.get(index)?)))
                        else {
                            break;
                        };
                        let cells = self.one(row);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((index, cells));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(index, _)| *index);
        let cells = done.into_iter().map(|(_, cells)| cells).collect::<Result<Vec<_>>>()?;
        Ok(cells.into_iter().flatten().collect())
    }

    fn one(&self, row: &Row) -> Result<Vec<Cell>> {
        let started = Instant::now();
        let of =
            |guests: &'a Guests| Some((guests, guests.images.iter().find(|image| image.line == row.line)?));
        let (guests, image) =
            self.guests.iter().find_map(of).with_context(|| format!("no kernel for {}", row.name))?;
        let file = |kind: &str| self.cache.join(format!("{}.{kind}", row.name.replace(' ', "-")));
        let lines = [file("log"), file("results")];
        let words = guest::command_line(row, self.limits.command);
        let guest = qemu::Guest { image, disk: &guests.disk, words: &words, lines: &lines };
        let ran = qemu::boot(guests.how, &guest, self.limits.guest)
            .with_context(|| format!("Linux {}", row.name))?;
        let fault = ran.ended.err().map(|error| format!("{error:#}"));
        let cells = cell::read(row, &ran.console, &unpacked(&lines[1])?, fault.as_deref());
        let took = seconds(started);
        eprintln!("vm: Linux {}: {took}; all that it printed: {}", row.name, lines[0].display());
        if fault.is_some() || cells.iter().any(|cell| matches!(cell.outcome, cell::Outcome::Broken(_))) {
            eprintln!("vm: the last lines of Linux {}:\n{}", row.name, tail(&ran.console));
        }
        Ok(cells)
    }
}

/// How much there is to do on the backends that do more than being refused.
fn work(row: &Row) -> usize {
    let works = |backend: &&String| plan::expected(&row.name, backend) == plan::Expected::Works;
    // Where counts may not be exact, most tests are left out.
    let share = |backend: &String| if plan::may_lose_runs(&row.name, backend) { 1 } else { 2 };
    row.backends.iter().filter(works).map(share).sum()
}

/// The results, which are compressed one by one. Of what is cut short, what could be read is given.
fn unpacked(results: &PathBuf) -> Result<String> {
    let output = Command::new("gzip").arg("-dc").arg(results).output().context("cannot start `gzip`")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let last: Vec<String> =
        lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("  {line}")).collect();
    last.join("\n")
}
