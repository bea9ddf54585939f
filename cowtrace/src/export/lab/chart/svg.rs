//! A curve as SVG: axes with ticks, a legend, measured points with a line, formulas as dashed lines.
//!
//! Colours come from classes (`s0` … for series, `grid`, `axis`), so that the page around it can follow a light
//! or dark setting; [`file()`] brings the same as a file of its own.

use maud::{Markup, PreEscaped, html};

use super::{Scale, described, largest, legend, name, points, spread};
use crate::{
    export::printable::printable_lines,
    lab::report::{Curve, Series},
};

/// Colours, and what else a chart needs of a style sheet.
pub(in super::super) const STYLE: &str = include_str!("chart.css");

/// Classes of series, one colour each; then they begin again.
const COLORS: usize = 6;
/// More points than this are not drawn.
const MOST_POINTS: usize = 600;
/// Up to so many points, each has a sign.
const MOST_SIGNS: usize = 64;

/// How wide the place is that a chart is made for; both have the same size of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Room {
    /// A desktop's page.
    Wide,
    /// A phone's.
    Narrow,
}

/// Where things are, in the units of the picture.
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Scale,
    y: Scale,
}

const LETTER: f64 = 7.3;
const LINE: f64 = 20.0;

impl Frame {
    fn new(curve: &Curve, room: Room) -> Frame {
        let (width, plot, wanted) = match room {
            Room::Wide => (720.0, 280.0, 8),
            Room::Narrow => (340.0, 220.0, 4),
        };
        let x = Scale::to_the_end(largest(curve, 0), wanted);
        let y = Scale::to_a_tick(largest(curve, 1), 5);
        let widest =
            |scale: &Scale| scale.labels().iter().map(|l| l.chars().count()).max().unwrap_or(0) as f64;
        let top = LINE * (curve.series.len() as f64 + 1.0) + 12.0;
        Frame {
            width,
            height: top + plot + 2.0 * LINE + 8.0,
            left: widest(&y) * LETTER + 12.0,
            right: width - (widest(&x) * LETTER / 2.0).max(8.0),
            top,
            bottom: top + plot,
            x,
            y,
        }
    }

    fn across(&self, x: f64) -> f64 {
        self.left + self.x.place(x) * (self.right - self.left)
    }

    fn down(&self, y: f64) -> f64 {
        self.bottom - self.y.place(y) * (self.bottom - self.top)
    }
}

/// The chart, to stand in a page; `id` must be the only one of its kind there.
pub(in super::super) fn inline(curve: &Curve, room: Room, id: &str) -> Markup {
    drawn(curve, room, id, None)
}

/// The chart as a file.
pub(in super::super) fn file(curve: &Curve) -> String {
    let drawn = drawn(curve, Room::Wide, "chart", Some(STYLE));
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", printable_lines(&drawn.into_string()))
}

fn drawn(curve: &Curve, room: Room, id: &str, style: Option<&str>) -> Markup {
    let frame = Frame::new(curve, room);
    let class = match room {
        Room::Wide => "chart wide",
        Room::Narrow => "chart narrow",
    };
    // A file has paper around it.
    let margin = if style.is_some() { 16.0 } else { 0.0 };
    let (width, height) = (frame.width + 2.0 * margin, frame.height + 2.0 * margin);
    let (title, description) = (format!("{id}-title"), format!("{id}-desc"));
    html! {
        svg xmlns="http://www.w3.org/2000/svg" class=(class) role="img"
            viewBox={ (-margin) " " (-margin) " " (width) " " (height) }
            width=[style.map(|_| width)] height=[style.map(|_| height)]
            aria-labelledby={ (title) " " (description) } {
            title id=(title) { (curve.title) }
            desc id=(description) { (described(curve)) }
            @if let Some(style) = style {
                style { (PreEscaped(style)) }
                rect class="paper" x=(-margin) y=(-margin) width=(width) height=(height) {}
            }
            (axes(curve, &frame))
            @for (index, series) in curve.series.iter().enumerate() {
                (key(index, series))
            }
            @for (index, series) in curve.series.iter().enumerate() {
                (line(index, series, &frame))
            }
        }
    }
}

fn axes(curve: &Curve, frame: &Frame) -> Markup {
    let ticks = |scale: &Scale| scale.ticks.iter().copied().zip(scale.labels()).collect::<Vec<_>>();
    html! {
        @for (value, label) in ticks(&frame.y) {
            @let down = round(frame.down(value));
            path class="grid" d={ "M" (round(frame.left)) " " (down) "H" (round(frame.right)) } {}
            text x=(round(frame.left - 8.0)) y=(round(down + 4.5)) text-anchor="end" { (label) }
        }
        @for (value, label) in ticks(&frame.x) {
            @let across = round(frame.across(value));
            path class="axis" d={ "M" (across) " " (round(frame.bottom)) "v5" } {}
            text x=(across) y=(round(frame.bottom + LINE)) text-anchor="middle" { (label) }
        }
        path class="axis" d={ "M" (round(frame.left)) " " (round(frame.bottom)) "H" (round(frame.right)) } {}
        text class="name" x="0" y=(round(frame.top - 12.0)) { (name(curve.y)) }
        text class="name" x=(round(frame.right)) y=(round(frame.bottom + 2.0 * LINE)) text-anchor="end" {
            (name(curve.x))
        }
    }
}

/// The line of the legend.
fn key(index: usize, series: &Series) -> Markup {
    let down = LINE * index as f64 + 10.0;
    html! {
        g class=(class(index, series)) {
            path class="line" d={ "M1 " (down) "h28" } {}
            @if series.measured { (sign(index, 15.0, down)) }
        }
        text x="38" y=(down + 4.5) { (legend(series)) }
    }
}

fn line(index: usize, series: &Series, frame: &Frame) -> Markup {
    let all: Vec<[f64; 2]> = points(series).collect();
    let places: Vec<[f64; 2]> =
        spread(&all, MOST_POINTS).into_iter().map(|[x, y]| [frame.across(x), frame.down(y)]).collect();
    let way: Vec<String> = places.iter().map(|[x, y]| format!("{} {}", round(*x), round(*y))).collect();
    html! {
        g class=(class(index, series)) {
            @if places.len() > 1 { path class="line" d={ "M" (way.join("L")) } {} }
            @if places.len() == 1 || (series.measured && places.len() <= MOST_SIGNS) {
                @for [x, y] in &places { (sign(index, *x, *y)) }
            }
        }
    }
}

fn class(index: usize, series: &Series) -> String {
    // The first is broader: where curves are one, all of them are seen.
    let kind = match (series.measured, index) {
        (false, _) => " formula",
        (true, 0) => " under",
        (true, _) => "",
    };
    format!("s{}{kind}", index % COLORS)
}

/// A dot, a square, a diamond, a triangle: told apart without colours.
fn sign(index: usize, x: f64, y: f64) -> Markup {
    let (x, y) = (round(x), round(y));
    html! {
        @match index % 4 {
            0 => circle cx=(x) cy=(y) r="5" {},
            1 => path class="sign" d={ "M" (x - 3.0) " " (y - 3.0) "h6v6h-6z" } {},
            2 => path class="sign" d={ "M" (x) " " (round(y - 4.5)) "l4.5 4.5l-4.5 4.5l-4.5 -4.5z" } {},
            _ => path class="sign" d={ "M" (x) " " (round(y - 4.2)) "l4.2 7.4h-8.4z" } {},
        }
    }
}

/// A tenth of a unit is less than can be seen.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
