//! Curves in a line of text each: how high it is, from left to right.

use super::{largest, legend, name, points, with_unit};
use crate::{
    export::table::bar,
    lab::report::{Curve, Series},
};

/// A line of bars is not longer than reads well, nor shorter than says anything.
const BARS_WIDE: std::ops::RangeInclusive<usize> = 8..=48;

/// What is on the axes, and a line for each series: name, bars, first and last value.
pub(in super::super) fn lines(curve: &Curve, width: usize) -> (String, Vec<String>) {
    let (end, most) = (largest(curve, 0), largest(curve, 1));
    let axes = format!(
        "{}, up to {}, against {}, from 0 to {}",
        name(curve.y),
        with_unit(most, curve.y.unit),
        name(curve.x),
        with_unit(end, curve.x.unit)
    );
    let names: Vec<String> = curve.series.iter().map(legend).collect();
    let ends: Vec<String> = curve.series.iter().map(|series| from_to(series, curve.y.unit)).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    let (least, longest) = BARS_WIDE.into_inner();
    let room = |beside: usize| width.saturating_sub(beside).clamp(least, longest);
    let (names_wide, ends_wide) = (widest(&names), widest(&ends));
    let beside = names_wide + ends_wide + 4;
    let each = curve.series.iter().zip(names.iter().zip(&ends));
    let lines = if beside + least <= width {
        each.map(|(series, (name, ends))| {
            format!("{name:<pad$}  {}  {ends}", bars(series, end, most, room(beside)), pad = names_wide)
        })
        .collect()
    } else {
        // The name on a line of its own.
        each.flat_map(|(series, (name, ends))| {
            [name.clone(), format!("{}  {ends}", bars(series, end, most, room(ends_wide + 2)))]
        })
        .collect()
    };
    (axes, lines)
}

fn from_to(series: &Series, unit: &str) -> String {
    match (points(series).next(), points(series).last()) {
        (Some([_, first]), Some([_, last])) => {
            format!("{} → {}", with_unit(first, ""), with_unit(last, unit))
        }
        _ => String::new(),
    }
}

/// One bar for each part of the axis from 0 to `end`, the highest for `most`; a blank where there is no curve.
fn bars(series: &Series, end: f64, most: f64, room: usize) -> String {
    let all: Vec<[f64; 2]> = points(series).collect();
    let bar = |index: usize| {
        let x = end * index as f64 / (room - 1) as f64;
        value_at(&all, x).map_or(' ', |y| bar(if most > 0.0 { y / most } else { 0.0 }))
    };
    (0..room).map(bar).collect()
}

/// The curve's height: on the straight line between the points beside `x`.
fn value_at(points: &[[f64; 2]], x: f64) -> Option<f64> {
    let after = points.iter().position(|point| point[0] >= x)?;
    let [right, high] = points[after];
    match after.checked_sub(1).map(|before| points[before]) {
        Some([left, low]) if right > left => Some(low + (high - low) * (x - left) / (right - left)),
        Some(_) => Some(high),
        None => (right == x).then_some(high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[[f64; 2]]) -> Series {
        Series { name: "a".into(), measured: true, points: points.to_vec() }
    }

    #[test]
    fn bars_follow_the_curve_and_begin_where_it_does() {
        let straight = series(&[[0.0, 0.0], [10.0, 10.0]]);
        assert_eq!(bars(&straight, 10.0, 10.0, 8), "▁▂▃▄▅▆▇█");
        let late = series(&[[5.0, 10.0], [10.0, 10.0]]);
        assert_eq!(bars(&late, 10.0, 10.0, 5), "  ███");
        assert_eq!(bars(&series(&[]), 10.0, 10.0, 3), "   ");
        assert_eq!(bars(&series(&[[0.0, 0.0]]), 0.0, 0.0, 2), "▁▁");
    }
}
