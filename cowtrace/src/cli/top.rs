//! `cowtrace top`: who copies now, and what forks in flight cost.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use clap::{ArgGroup, Args};

use super::{
    Failure, Globals,
    forecast::ForecastArgs,
    messages::Hold,
    output,
    subject::{self, TargetArgs},
    text,
    tracer::{TracingArgs, block_on, prepare},
};
use crate::{
    collect::{Attach, Interrupts, Pace, Session, SessionError, SessionOptions, Target},
    export::Style,
    tui::{
        Screen,
        draw::{self, Looks},
        model::{Action, Frame, Tracked, View},
    },
};

/// Regions of each process that are shown in the list.
const TOP_REGION: usize = 1;
/// The shortest time between two frames.
const SHORTEST: Duration = Duration::from_millis(100);

/// Options of `top`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("whom").args(TargetArgs::IDS)))]
pub(super) struct TopArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Time between two frames (1s, 500ms; at least 100ms)
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print one frame, after one interval, and end
    #[arg(long, conflicts_with = "duration")]
    once: bool,
    /// End after this time (10s, 5min)
    #[arg(short, long, value_name = "TIME", value_parser = subject::duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    forecast: ForecastArgs,
    #[command(flatten)]
    tracing: TracingArgs,
}

/// Attaches, and shows frames until it is told to end.
pub(super) fn run(args: &TopArgs, globals: Globals) -> Result<u8, Failure> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if !args.once && (!io::stdin().is_terminal() || !io::stdout().is_terminal() || is_dumb) {
        return Err(Failure::usage(anyhow!(
            "top needs a terminal for its keys and its screen, and TERM to say which; \
             `cowtrace top --once` prints one frame anywhere"
        )));
    }
    let interrupts = prepare()?;
    let attach = Attach { target: args.target.target(), duration: args.duration };
    block_on(async {
        let forecast = args.forecast.lifetime();
        let options = SessionOptions { forecast, ..args.tracing.session(globals) };
        let session = Session::attach(&attach, &options)?;
        if args.once {
            once(session, args, interrupts, globals).await
        } else {
            watch(session, args, interrupts, globals).await
        }
    })?;
    Ok(0)
}

/// Prints one frame.
async fn once(
    mut session: Session,
    args: &TopArgs,
    interrupts: Interrupts,
    globals: Globals,
) -> Result<(), Failure> {
    let Style { width, .. } = text::style(globals.color, &io::stdout());
    let mut tracked = Tracked::new(args.forecast.lifetime().is_some());
    let mut frame = Ok(None);
    tracked.take(session.glance(TOP_REGION, None)?);
    tracked.frame();
    let begin = Instant::now();
    let mut each_round = |session: &mut Session| {
        if begin.elapsed() >= args.interval {
            frame = session.glance(TOP_REGION, None).map(|report| {
                tracked.take(report);
                tracked.frame()
            });
            session.end();
        }
    };
    let finished = session.run_with(true, interrupts, &mut each_round).await?;
    let frame = match frame? {
        // It ended before: they have all exited, or a signal came.
        None => {
            tracked.take(finished.report);
            tracked.frame()
        }
        some => some,
    };
    let looks = Looks { color: false, unicode: is_utf8() };
    let text = frame.map(|frame| draw::text(&frame, &words(&args.target.target()), width, looks));
    output::print(text.unwrap_or_default().as_bytes())
}

/// Shows frames until a key, a signal or the end of the traced ones ends it.
async fn watch(
    mut session: Session,
    args: &TopArgs,
    interrupts: Interrupts,
    globals: Globals,
) -> Result<(), Failure> {
    let color = text::use_color(globals.color, &io::stdout());
    let looks = Looks { color, unicode: is_utf8() };
    let wake = io::stdin().as_fd().try_clone_to_owned().context("cannot watch the terminal")?;
    let target = args.target.target();
    let named = matches!(target, Target::Pids(_));
    session.set_pace(Pace { wake: Some(wake), outlive: !named });
    let mut failure = None;
    let mut quit = false;
    let mut shown = Shown::new(args, words(&target), looks)
        .map_err(|answer| SessionError::Wait { action: "take over the terminal", answer })?;
    let mut each_round = |session: &mut Session| match shown.round(session) {
        Ok(true) => {}
        Ok(false) => {
            quit = true;
            session.end();
        }
        Err(error) => {
            failure = Some(error);
            session.end();
        }
    };
    let finished = session.run_with(true, interrupts, &mut each_round).await?;
    // What is said from here on is for the terminal as it was.
    drop(shown);
    if let Some(failure) = failure {
        return Err(failure);
    }
    if named && !quit && finished.report.processes.iter().all(|process| process.end_ns.is_some()) {
        // Nobody may be there to read it.
        let _ = writeln!(io::stderr(), "cowtrace: all traced processes have exited");
    }
    Ok(())
}

/// What is on the screen.
struct Shown {
    screen: Option<Screen>,
    /// After the screen in the order of dropping: it writes to the terminal.
    messages: Hold,
    view: View,
    tracked: Tracked,
    frame: Option<Frame>,
    subject: String,
    interval: Duration,
    due: Instant,
}

impl Shown {
    fn new(args: &TopArgs, subject: String, looks: Looks) -> io::Result<Shown> {
        let messages = Hold::new();
        Ok(Shown {
            screen: Some(Screen::take(looks)?),
            messages,
            view: View::default(),
            tracked: Tracked::new(args.forecast.lifetime().is_some()),
            frame: None,
            subject,
            interval: args.interval,
            due: Instant::now(),
        })
    }

    /// Does what keys say, takes a frame if it is time, and draws what has changed. False: it is to end.
    fn round(&mut self, session: &mut Session) -> Result<bool, Failure> {
        let Some(screen) = &mut self.screen else { return Ok(false) };
        let on_terminal = "cannot use the terminal";
        let mut changed = screen.is_resized();
        let opened = self.view.opened();
        let keys = match screen.keys() {
            Ok(keys) => keys,
            // The terminal is gone, and with it whoever looked.
            Err(error) if is_hangup(&error) => return Ok(false),
            Err(error) => return Err(error).context(on_terminal)?,
        };
        for key in keys {
            changed = true;
            match self.view.press(key, self.frame.as_ref()) {
                Action::Draw => {}
                Action::Redraw => screen.clear().context(on_terminal)?,
                Action::Suspend => {
                    screen.suspend().context(on_terminal)?;
                    self.due = Instant::now();
                }
                Action::Quit => {
                    // At once: detaching takes a moment.
                    self.screen = None;
                    return Ok(false);
                }
            }
        }
        if let Some(message) = self.messages.last() {
            self.view.message = Some(message);
            changed = true;
        }
        let now = Instant::now();
        let detail = self.view.opened();
        if let Some(identity) = detail.filter(|_| detail != opened) {
            // Until now, only its first region was asked for.
            self.tracked.take(session.glance(TOP_REGION, Some(identity.pid))?);
            self.tracked.process(identity).into_iter().for_each(|process| self.view.detail(process));
        }
        if now >= self.due {
            self.due = (self.due + self.interval).max(now);
            self.tracked.take(session.glance(TOP_REGION, detail.map(|identity| identity.pid))?);
            let frame = self.tracked.frame().filter(|_| !self.view.paused);
            if let Some(frame) = frame {
                self.view.follow(&frame);
                self.frame = Some(frame);
                changed = true;
            }
        }
        if !changed {
            return Ok(true);
        }
        match screen.draw(&mut self.view, self.frame.as_ref(), &self.subject) {
            Err(error) if is_hangup(&error) => Ok(false),
            drawn => Ok(drawn.map(|()| true).context(on_terminal)?),
        }
    }
}

/// Whether that is a terminal's way to say that nobody is at its other end.
fn is_hangup(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(libc::EIO)
}

/// Who is traced, in a few words.
fn words(target: &Target) -> String {
    match target {
        Target::All => "all processes".to_owned(),
        Target::Comm(name) => format!("--comm {name}"),
        Target::Cgroup(path) => format!("--cgroup {}", path.display()),
        Target::Pids(pids) => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            format!("-p {}", pids.join(","))
        }
    }
}

/// Whether the locale is one of UTF-8, by the first of its variables that is set.
fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os);
    let locale = set.map(|value| value.to_string_lossy().to_lowercase()).find(|value| !value.is_empty());
    locale.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8"))
}

fn interval(text: &str) -> Result<Duration, String> {
    match subject::duration(text)? {
        short if short < SHORTEST => Err(format!("at least {} ms", SHORTEST.as_millis())),
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_not_too_short() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("50ms"), Err("at least 100 ms".to_owned()));
    }
}
