//! The terminal: taken over, drawn to, and given back whatever happens.

use std::{
    io::{self, Stdout, Write as _},
    mem::ManuallyDrop,
    os::fd::{AsFd as _, AsRawFd as _},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::{Pid, read},
};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        terminal::{self, EnterAlternateScreen, LeaveAlternateScreen},
    },
};

use super::{
    draw::{self, Looks},
    keys,
    model::{Frame, Key, View},
};

/// The terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();
/// How long the rest of a key is waited for, ms: an arrow begins as Escape does.
const REST_OF_KEY_MS: u8 = 50;

/// The terminal, for as long as it is ours: dropping it gives it back.
pub struct Screen {
    /// Never dropped: that prints, and panics where standard error has gone with the terminal.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    drawn: (u16, u16),
    looks: Looks,
}

impl Screen {
    /// Takes the terminal over: raw, without a cursor, on its second screen.
    ///
    /// # Errors
    /// The terminal's answer; it is as it was then.
    pub fn take(looks: Looks) -> io::Result<Screen> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        take_over().inspect_err(|_| give_back())?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).inspect_err(|_| give_back())?;
        Ok(Screen { terminal: ManuallyDrop::new(terminal), drawn: (0, 0), looks })
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// The terminal's answer.
    pub fn draw(&mut self, view: &mut View, frame: Option<&Frame>, subject: &str) -> io::Result<()> {
        let looks = self.looks;
        let drawn = self.terminal.draw(|screen| {
            let area = screen.area();
            draw::screen(screen.buffer_mut(), area, view, frame, subject, looks);
        })?;
        self.drawn = (drawn.area.width, drawn.area.height);
        Ok(())
    }

    /// Forgets what was drawn: the next time everything is.
    ///
    /// # Errors
    /// The terminal's answer.
    pub fn clear(&mut self) -> io::Result<()> {
        // `Terminal::clear` would ask the terminal where the cursor is, and wait for the answer among the keys.
        let area = self.terminal.get_frame().area();
        self.terminal.resize(area)
    }

    /// Whether the terminal has another size than what was drawn last.
    pub fn is_resized(&self) -> bool {
        // Asked twenty times a second: crossterm opens the terminal each time.
        // SAFETY: zero is a valid winsize; the call fills it or fails.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: a descriptor that stays open, and a valid pointer.
        let ret = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        ret == 0 && (size.ws_col, size.ws_row) != self.drawn
    }

    /// The keys that were pressed since the last call.
    ///
    /// # Errors
    /// The terminal's answer; `UnexpectedEof` if it is gone.
    pub fn keys(&mut self) -> io::Result<Vec<Key>> {
        let mut bytes = Vec::new();
        let mut patience = PollTimeout::ZERO;
        while is_readable(patience)? {
            let mut more = [0; 256];
            let got = read(io::stdin(), &mut more)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&more[..got]);
            if !keys::is_partial(&bytes) {
                break;
            }
            patience = PollTimeout::from(REST_OF_KEY_MS);
        }
        Ok(keys::keys(&bytes))
    }

    /// Gives the terminal back and stops, as a job of the shell; comes back when it goes on.
    ///
    /// # Errors
    /// The terminal's answer.
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back();
        // Whoever started this one (sudo) is a part of the job.
        kill(Pid::from_raw(0), Signal::SIGTSTP)?;
        take_over()?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whether there are keys to be read, or the terminal is gone.
fn is_readable(patience: PollTimeout) -> io::Result<bool> {
    let stdin = io::stdin();
    match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], patience) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(answer) => Err(answer.into()),
    }
}

fn take_over() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    terminal::enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Gives the terminal back, if it is ours.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // It may be gone: then there is nothing to be put back.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = terminal::disable_raw_mode();
    let _ = io::stdout().flush();
}
