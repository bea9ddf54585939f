//! What is shown of a frame: order, filter, selection, and what keys do to them.

use std::{ops::Range, rc::Rc};

use super::{Frame, Identity, Row, SortBy};
use crate::model::Process;

/// A key, in the terms of what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Ctrl and a letter.
    Ctrl(char),
    /// Return.
    Enter,
    /// Escape.
    Escape,
    /// Deletes the last character.
    Backspace,
    /// One up.
    Up,
    /// One down.
    Down,
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// A screenful up.
    PageUp,
    /// A screenful down.
    PageDown,
    /// The first.
    Home,
    /// The last.
    End,
}

/// What the program is to do about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Draw what has changed.
    Draw,
    /// Draw everything, as something else may have written to the terminal.
    Redraw,
    /// Stop, as a job of the shell.
    Suspend,
    /// End.
    Quit,
}

/// What fills the screen.
#[derive(Clone, Debug)]
pub enum Screenful {
    /// Processes, and forks below.
    Processes,
    /// Forks alone.
    Forks,
    /// One process, as it was when it was last seen.
    Process(Box<Row>),
    /// What keys do.
    Help,
}

/// What is shown.
#[derive(Debug)]
pub struct View {
    /// What fills the screen.
    pub screenful: Screenful,
    /// Order of the processes.
    pub sort: SortBy,
    /// The other way round.
    pub reversed: bool,
    /// Only processes that contain this, in any case of letters; empty for all.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// The frame stays.
    pub paused: bool,
    /// Something to be told until the next key.
    pub message: Option<String>,
    /// Whom the cursor follows; nobody: it stays at its place.
    selected: Option<Identity>,
    cursor: usize,
    first: usize,
    /// Lines of a screenful.
    height: usize,
    /// First line of a text that is longer than the screen.
    scroll: usize,
}

impl Default for View {
    fn default() -> View {
        View {
            screenful: Screenful::Processes,
            sort: SortBy::default(),
            reversed: false,
            filter: String::new(),
            typing: false,
            paused: false,
            message: None,
            selected: None,
            cursor: 0,
            first: 0,
            height: 1,
            scroll: 0,
        }
    }
}

impl View {
    /// Does what a key says.
    pub fn press(&mut self, key: Key, frame: Option<&Frame>) -> Action {
        self.message = None;
        match key {
            Key::Ctrl('c') => return Action::Quit,
            Key::Ctrl('z') => return Action::Suspend,
            Key::Ctrl('l') => return Action::Redraw,
            _ => {}
        }
        if self.typing {
            self.type_filter(key);
            return Action::Draw;
        }
        if key == Key::Char('q') && !matches!(self.screenful, Screenful::Help) {
            return Action::Quit;
        }
        match &self.screenful {
            Screenful::Help => self.screenful = Screenful::Processes,
            Screenful::Process(_) | Screenful::Forks => self.press_in_text(key),
            Screenful::Processes if key == Key::Escape && self.filter.is_empty() => return Action::Quit,
            Screenful::Processes => self.press_in_list(key, frame),
        }
        Action::Draw
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(letter) => self.filter.push(letter),
            Key::Ctrl('u') => self.filter.clear(),
            Key::Backspace if self.filter.is_empty() => self.typing = false,
            Key::Backspace => _ = self.filter.pop(),
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            Key::Enter => self.typing = false,
            _ => {}
        }
    }

    fn press_in_text(&mut self, key: Key) {
        let page = self.height.max(1);
        match key {
            Key::Escape | Key::Enter | Key::Backspace | Key::Left => self.show(Screenful::Processes),
            Key::Char('f') if matches!(self.screenful, Screenful::Forks) => self.show(Screenful::Processes),
            Key::Char('f') => self.show(Screenful::Forks),
            Key::Char('?' | 'h') => self.show(Screenful::Help),
            Key::Char('p' | ' ') => self.paused = !self.paused,
            Key::Up | Key::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            Key::Down | Key::Char('j') => self.scroll += 1,
            Key::PageUp => self.scroll = self.scroll.saturating_sub(page),
            Key::PageDown => self.scroll += page,
            Key::Home | Key::Char('g') => self.scroll = 0,
            // Cut to the last line when it is drawn.
            Key::End | Key::Char('G') => self.scroll = usize::MAX / 2,
            _ => {}
        }
    }

    fn press_in_list(&mut self, key: Key, frame: Option<&Frame>) {
        let page = self.height.max(1);
        match key {
            Key::Escape => self.filter.clear(),
            Key::Char('s' | '>') | Key::Right => self.sort_by(true),
            Key::Char('<') | Key::Left => self.sort_by(false),
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('/') => self.typing = true,
            Key::Char('f') => self.show(Screenful::Forks),
            Key::Char('?' | 'h') => self.show(Screenful::Help),
            Key::Char('p' | ' ') => self.paused = !self.paused,
            Key::Enter => self.open(frame),
            Key::Up | Key::Char('k') => self.go(frame, |at| at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.go(frame, |at| at + 1),
            Key::PageUp => self.go(frame, |at| at.saturating_sub(page)),
            Key::PageDown => self.go(frame, |at| at + page),
            Key::End | Key::Char('G') => self.go(frame, |_| usize::MAX),
            Key::Home | Key::Char('g') => {
                // Back to whoever is at the top.
                self.cursor = 0;
                self.selected = None;
            }
            _ => {}
        }
    }

    fn show(&mut self, screenful: Screenful) {
        self.scroll = 0;
        self.screenful = screenful;
    }

    fn sort_by(&mut self, right: bool) {
        self.sort = self.sort.next(right);
        self.reversed = false;
    }

    fn go(&mut self, frame: Option<&Frame>, to: impl Fn(usize) -> usize) {
        let Some(frame) = frame else { return };
        let rows = self.rows(frame);
        let at = to(self.place(&rows)).min(rows.len().saturating_sub(1));
        let selected = rows.get(at).map(|row| row.identity());
        self.cursor = at;
        self.selected = selected;
    }

    fn open(&mut self, frame: Option<&Frame>) {
        let Some(frame) = frame else { return };
        let rows = self.rows(frame);
        if let Some(row) = rows.get(self.place(&rows)) {
            let row = Box::new((*row).clone());
            self.show(Screenful::Process(row));
        }
    }

    /// The process that is shown alone.
    pub fn opened(&self) -> Option<Identity> {
        match &self.screenful {
            Screenful::Process(row) => Some(row.identity()),
            _ => None,
        }
    }

    /// Takes over all that is known of the process that is shown alone.
    pub fn detail(&mut self, process: Rc<Process>) {
        if let Screenful::Process(shown) = &mut self.screenful {
            shown.process = process;
        }
    }

    /// Takes over what a new frame tells of what is shown.
    pub fn follow(&mut self, frame: &Frame) {
        if let Screenful::Process(shown) = &mut self.screenful
            && let Some(row) = frame.rows.iter().find(|row| row.identity() == shown.identity())
        {
            **shown = row.clone();
        }
    }

    /// The processes that are shown, in their order.
    pub fn rows<'a>(&self, frame: &'a Frame) -> Vec<&'a Row> {
        let wanted = self.filter.to_lowercase();
        let fits = |row: &&Row| {
            let process = &row.process;
            wanted.is_empty()
                || process.comm.to_lowercase().contains(&wanted)
                || process.pid.to_string().contains(&wanted)
                || process.cmdline.iter().any(|word| word.to_lowercase().contains(&wanted))
        };
        let mut rows: Vec<&Row> = frame.rows.iter().filter(fits).collect();
        self.sort.sort(&mut rows, self.reversed);
        rows
    }

    /// Where the cursor is among these.
    fn place(&self, rows: &[&Row]) -> usize {
        let followed =
            self.selected.and_then(|identity| rows.iter().position(|row| row.identity() == identity));
        followed.unwrap_or(self.cursor).min(rows.len().saturating_sub(1))
    }

    /// Which of the processes fit into so many lines, and which of them the cursor is on.
    pub fn window(&mut self, rows: &[&Row], height: usize) -> (Range<usize>, usize) {
        self.height = height;
        self.cursor = self.place(rows);
        if self.cursor < self.first {
            self.first = self.cursor;
        }
        if self.cursor >= self.first + height {
            self.first = (self.cursor + 1).saturating_sub(height);
        }
        // No empty lines while there is somebody to fill them.
        self.first = self.first.min(rows.len().saturating_sub(height));
        (self.first..rows.len().min(self.first + height), self.cursor)
    }

    /// Which lines of a text fit into a screen of this height.
    pub fn lines(&mut self, count: usize, height: usize) -> Range<usize> {
        self.height = height;
        self.scroll = self.scroll.min(count.saturating_sub(height));
        self.scroll..count.min(self.scroll + height)
    }
}
