//! Screens, as they are seen.

use std::rc::Rc;

use insta::assert_snapshot;
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::{
    model::{Forecast, Lost},
    tui::model::{Key, tests::frame},
};

const LOOKS: Looks = Looks { color: false, unicode: true };

fn drawn(width: u16, height: u16, frame: &Frame, keys: &[Key], looks: Looks) -> String {
    let mut view = View::default();
    for &key in keys {
        view.press(key, Some(frame));
    }
    let mut terminal =
        Terminal::new(TestBackend::new(width, height)).unwrap_or_else(|error| panic!("{error}"));
    let drawn = terminal.draw(|shown| {
        let area = shown.area();
        screen(shown.buffer_mut(), area, &mut view, Some(frame), "all processes", looks);
    });
    drawn.unwrap_or_else(|error| panic!("{error}"));
    terminal.backend().to_string()
}

#[test]
fn a_usual_terminal() {
    assert_snapshot!(drawn(80, 24, &frame(), &[], LOOKS));
}

#[test]
fn a_large_terminal() {
    assert_snapshot!(drawn(160, 50, &frame(), &[], LOOKS));
}

#[test]
fn a_tiny_terminal() {
    assert_snapshot!(drawn(20, 8, &frame(), &[], LOOKS));
}

#[test]
fn no_terminal_is_too_small() {
    let keys: [&[Key]; 4] = [&[], &[Key::Enter], &[Key::Char('f')], &[Key::Char('?')]];
    for (width, height) in [(1, 1), (3, 2), (5, 3), (12, 4), (1, 40), (200, 1)] {
        for keys in keys {
            drawn(width, height, &frame(), keys, LOOKS);
        }
    }
}

#[test]
fn one_process() {
    assert_snapshot!(drawn(100, 20, &frame(), &[Key::Enter], LOOKS));
}

#[test]
fn one_process_on_a_tiny_terminal() {
    assert_snapshot!(drawn(20, 14, &frame(), &[Key::Enter], LOOKS));
}

#[test]
fn forks_alone_and_losses_in_ascii() {
    let lost = Lost { events: 12, regions: 3, ..Lost::default() };
    let frame = Frame { lost, ..frame() };
    let looks = Looks { color: false, unicode: false };
    assert_snapshot!(drawn(100, 12, &frame, &[Key::Char('f')], looks));
}

#[test]
fn what_is_expected_of_forks() {
    let mut frame = Frame { foreseen: true, ..frame() };
    let fork = &mut Rc::make_mut(&mut frame.forks[0].fork);
    fork.forecasts.push(Forecast {
        at_ns: 9_000_000_000,
        end_ns: 61_000_000_000,
        expected_bytes: 167_903_232,
        low_bytes: 151_204_659,
        high_bytes: 235_015_782,
    });
    let drawn = [160, 80, 40, 20].map(|width| drawn(width, 6, &frame, &[Key::Char('f')], LOOKS));
    assert_snapshot!(drawn.join("\n"));
}

#[test]
fn a_filter_while_it_is_typed() {
    assert_snapshot!(drawn(60, 12, &frame(), &[Key::Char('/'), Key::Char('r'), Key::Char('e')], LOOKS));
}

#[test]
fn help() {
    assert_snapshot!(drawn(80, 24, &frame(), &[Key::Char('?')], LOOKS));
}

#[test]
fn one_frame_as_text() {
    assert_snapshot!(text(&frame(), "all processes", 100, LOOKS));
}

#[test]
fn there_is_no_colour_unless_it_is_wanted() {
    let mut frame = frame();
    frame.lost.events = 1;
    let colored = |color: bool| {
        let area = Rect::new(0, 0, 80, 24);
        let mut buffer = Buffer::empty(area);
        let looks = Looks { color, ..LOOKS };
        screen(&mut buffer, area, &mut View::default(), Some(&frame), "-p 1", looks);
        let plain = ratatui::style::Color::Reset;
        buffer.content().iter().any(|cell| cell.fg != plain || cell.bg != plain)
    };
    assert_eq!((colored(true), colored(false)), (true, false));
}
