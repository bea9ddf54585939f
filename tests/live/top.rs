//! `top`: the terminal is given back whatever happens, and a frame tells the true rates.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cowtrace_tests::{
    Listener, Setting, counts_copies, cowtrace, finish, live, program, skip, tracer, workload,
};

use super::signals::terminal;

const LIMIT: Duration = Duration::from_secs(60);

/// `cowtrace top` at a terminal of its own.
struct Top {
    child: Child,
    master: File,
    slave: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    before: Vec<u8>,
}

/// All that can be set of a terminal.
fn settings(terminal: &OwnedFd) -> Result<Vec<u8>> {
    // SAFETY: zero is a valid termios; the call fills it or fails.
    let mut now: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor, and a valid pointer.
    ensure!(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut now) } == 0, "tcgetattr");
    let flags = [now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag];
    Ok(flags.iter().flat_map(|flag| flag.to_ne_bytes()).chain(now.c_cc).collect())
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: an open descriptor, and a valid pointer.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    ensure!(done == 0, "TIOCSWINSZ: {}", std::io::Error::last_os_error());
    Ok(())
}

/// `cowtrace top` at that end of a terminal, which becomes its controlling one if `controls`.
fn spawn(words: &[&str], slave: &OwnedFd, controls: bool) -> Result<Child> {
    let mut command = tracer("top");
    command.args(words).env("TERM", "xterm-256color");
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    let terminal = slave.as_raw_fd();
    // SAFETY: only system calls, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() == -1 || (controls && libc::ioctl(terminal, libc::TIOCSCTTY, 0) == -1) {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    Ok(command.spawn()?)
}

impl Top {
    /// Started, and showing frames.
    fn start(words: &[&str]) -> Result<Top> {
        let (master, slave) = terminal()?;
        resize(&slave, 80, 24)?;
        let before = settings(&slave)?;
        let child = spawn(words, &slave, true)?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, kept) = (master.try_clone()?, Arc::clone(&shown));
        // It ends with the terminal.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(got @ 1..) = reader.read(&mut bytes) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..got]);
            }
        });
        let top = Top { child, master, slave, shown, before };
        top.shows("copies/s", 0)?;
        ensure!(settings(&top.slave)? != top.before, "the terminal is not raw");
        Ok(top)
    }

    fn shown(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for words that are written after so many bytes.
    fn shows(&self, words: &str, after: usize) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let shown = self.shown();
            let text = String::from_utf8_lossy(shown.get(after..).unwrap_or_default()).into_owned();
            if text.contains(words) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "no {words:?} in {text:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &[u8]) -> Result<()> {
        Ok(self.master.write_all(keys)?)
    }

    fn send(&self, signal: libc::c_int) -> Result<()> {
        // SAFETY: a child that is not reaped yet.
        ensure!(unsafe { libc::kill(self.child.id().cast_signed(), signal) } == 0, "no signal can be sent");
        Ok(())
    }

    /// Its end: the terminal must be as it was, and show the first screen with a cursor.
    fn ends_well(self) -> Result<String> {
        let Top { child, slave, shown, before, .. } = self;
        let output: Output = finish(child, LIMIT)?;
        // What it wrote last may still be on its way to the reader.
        thread::sleep(Duration::from_millis(100));
        let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8_lossy(&shown).into_owned();
        ensure!(output.status.success(), "{:?}: {text:?}", output.status);
        ensure!(settings(&slave)? == before, "the terminal is not as it was");
        for (taken, given_back) in [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")] {
            let (taken, back) = (text.rfind(taken), text.rfind(given_back));
            ensure!(taken.is_some() && back > taken, "no {given_back:?} at the end of {text:?}");
        }
        Ok(text.rsplit("\x1b[?25h").next().unwrap_or_default().to_owned())
    }
}

#[test]
fn the_terminal_is_given_back() -> Result<()> {
    let _live = live!();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let top = Top::start(&["--all"])?;
        top.send(signal)?;
        top.ends_well()?;
    }
    for keys in [&b"q"[..], b"\x03", b"jj\r?xfq"] {
        let mut top = Top::start(&["-i", "0.2"])?;
        top.press(keys)?;
        assert_eq!(top.ends_well()?, "");
    }
    Top::start(&["--all", "--duration", "5s"])?.ends_well()?;
    Ok(())
}

#[test]
fn a_terminal_that_is_resized_and_left_for_the_shell() -> Result<()> {
    let _live = live!();
    let mut top = Top::start(&["-i", "0.2"])?;
    let seen = top.shown().len();
    resize(&top.slave, 20, 8)?;
    top.shows("COPY/S", seen)?;
    // A session of its own has nobody who could wake it, so that it does not stop: the screen comes back all the same.
    let seen = top.shown().len();
    top.press(b"\x1a")?;
    top.shows("\x1b[?1049l", seen)?;
    top.shows("\x1b[?1049h", seen)?;
    top.press(b"q")?;
    top.ends_well()?;
    Ok(())
}

/// A terminal that is closed: with the signal that its session gets then, and without.
#[test]
fn a_terminal_that_goes_away() -> Result<()> {
    let _live = live!();
    for controls in [true, false] {
        let (mut master, slave) = terminal()?;
        resize(&slave, 80, 24)?;
        // SAFETY: an open descriptor; the tracer must not keep this end open.
        unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        let child = spawn(&["--all"], &slave, controls)?;
        drop(slave);
        let mut shown = Vec::new();
        let mut bytes = [0; 4096];
        while !String::from_utf8_lossy(&shown).contains("copies/s") {
            let got = master.read(&mut bytes)?;
            shown.extend_from_slice(&bytes[..got]);
        }
        drop(master);
        let output = finish(child, LIMIT)?;
        ensure!(output.status.success(), "{:?}", output.status);
    }
    Ok(())
}

#[test]
fn processes_that_are_named_and_exit() -> Result<()> {
    let _live = live!();
    let mut subject = Command::new(workload()).arg("sleep-forever").spawn()?;
    let top = Top::start(&["-p", &subject.id().to_string()])?;
    subject.kill()?;
    subject.wait()?;
    let said = top.ends_well()?;
    ensure!(said.contains("all traced processes have exited"), "{said:?}");
    Ok(())
}

/// What a fork is expected to cost is on the screen while it is in flight.
#[test]
fn what_a_fork_will_cost() -> Result<()> {
    let _live = live!();
    let mut writer = Command::new(program()?).args(["write-slowly", "2000"]).stdin(Stdio::piped()).spawn()?;
    let mut ask = writer.stdin.take().context("no standard input")?;
    let top = Top::start(&["--forecast=77s", "-i", "200ms", "-p", &writer.id().to_string()]);
    let shown = top.and_then(|top| {
        writeln!(ask)?;
        let shown = top.shows("EXPECTED", 0).and_then(|()| top.shows("1m17s", 0));
        drop(ask);
        let said = top.ends_well()?;
        shown.map(|()| said)
    });
    let ended = writer.wait()?;
    ensure!(shown?.contains("all traced processes have exited"));
    ensure!(ended.success(), "the program failed");
    Ok(())
}

#[test]
fn a_terminal_is_needed_or_once() -> Result<()> {
    let _live = live!();
    let output = Command::new(cowtrace()).arg("top").stdin(Stdio::null()).output()?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("--once") && output.stdout.is_empty(), "{said}");
    let closed = {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        writer
    };
    let output =
        tracer("top").args(["--once", "-i", "0.1"]).stdout(closed).stderr(Stdio::piped()).output()?;
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    Ok(())
}

/// Most of its time it sleeps, so that it keeps its pace while the tracer starts on a busy machine.
const STEADY: &str = "while :; do (:); (:); (:); (:); sleep 0.2; done";

/// A shell that forks at a steady pace: what a frame says it copies per second is what the kernel counted in its whole life.
#[test]
fn one_frame_tells_the_rate() -> Result<()> {
    let _live = live!();
    if !counts_copies() {
        skip("one_frame_tells_the_rate", "this kernel does not count copies");
        return Ok(());
    }
    let _accounting = Setting::delay_accounting()?;
    let listener = Listener::start()?;
    let begin = Instant::now();
    let mut steady = Command::new("sh").args(["-c", STEADY]).spawn()?;
    let pid = steady.id();
    let once = tracer("top").args(["--once", "-i", "4", "-p", &pid.to_string()]).output();
    steady.kill()?;
    let lived = begin.elapsed();
    steady.wait()?;
    let output = once?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{output:?}");
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(&pid.to_string()));
    let words: Vec<&str> = line.with_context(|| format!("not in {text}"))?.split_whitespace().collect();
    let rate: f64 = words.get(2).context("no rate")?.replace(',', "").parse()?;
    let exited = listener.finish()?;
    let counted = exited.iter().find(|exit| exit.pid == pid).and_then(|exit| exit.wpcopy);
    let mean = counted.context("the kernel does not tell")? as f64 / lived.as_secs_f64();
    ensure!((0.7..1.3).contains(&(rate / mean)), "{rate} copies/s, and {mean} by the kernel: {text}");
    ensure!(!text.contains("lost"), "something was lost: {text}");
    Ok(())
}
