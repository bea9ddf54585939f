//! Curves: what an axis shows, and the words for a curve.

pub(super) mod spark;
pub(super) mod svg;

use super::words::quantity;
use crate::lab::report::{Axis, Curve, Series};

/// An axis from 0 on.
#[derive(Clone, Debug, PartialEq)]
struct Scale {
    ticks: Vec<f64>,
    end: f64,
}

impl Scale {
    /// About `wanted` ticks at round numbers, the last of them not less than `most`; there the axis ends.
    fn to_a_tick(most: f64, wanted: usize) -> Scale {
        let (most, step) = step(most, wanted);
        let count = (most / step - 1e-9).ceil().max(1.0) as usize;
        Scale { ticks: (0..=count).map(|index| index as f64 * step).collect(), end: count as f64 * step }
    }

    /// About `wanted` ticks at round numbers; the axis ends at `most`.
    fn to_the_end(most: f64, wanted: usize) -> Scale {
        let (most, step) = step(most, wanted);
        let count = (most / step + 1e-9).floor() as usize;
        Scale { ticks: (0..=count).map(|index| index as f64 * step).collect(), end: most }
    }

    /// Where a value is: 0 at the beginning of the axis, 1 at its end.
    fn place(&self, value: f64) -> f64 {
        (value / self.end).clamp(0.0, 1.0)
    }

    /// The ticks as they are written.
    fn labels(&self) -> Vec<String> {
        // Room for millions is scarce.
        let (unit, suffix) = if self.end >= 1e7 { (1e6, " M") } else { (1.0, "") };
        self.ticks
            .iter()
            .map(|tick| format!("{}{}", quantity(tick / unit), if *tick > 0.0 { suffix } else { "" }))
            .collect()
    }
}

/// The largest value, if it is one, and the distance of ticks.
fn step(most: f64, wanted: usize) -> (f64, f64) {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let rough = most / wanted as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0].map(|factor| factor * magnitude);
    (most, steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(magnitude * 10.0))
}

/// `Private_Dirty (kB)`.
fn name(axis: Axis) -> String {
    if axis.unit.is_empty() { axis.label.to_owned() } else { format!("{} ({})", axis.label, axis.unit) }
}

/// `34 kB`, `1.5`.
fn with_unit(value: f64, unit: &str) -> String {
    let value = quantity(value);
    if unit.is_empty() { value } else { format!("{value} {unit}") }
}

/// The series' name, and whether it was measured.
fn legend(series: &Series) -> String {
    if series.measured { series.name.clone() } else { format!("{} (formula)", series.name) }
}

/// The points that can be drawn.
fn points(series: &Series) -> impl Iterator<Item = [f64; 2]> {
    series.points.iter().copied().filter(|[x, y]| x.is_finite() && y.is_finite())
}

/// The largest value of all series on one axis (0: x, 1: y).
fn largest(curve: &Curve, axis: usize) -> f64 {
    curve.series.iter().flat_map(points).map(|point| point[axis]).fold(0.0, f64::max)
}

/// The curve in sentences, for those who do not see it.
pub(super) fn described(curve: &Curve) -> String {
    let mut text = format!("{} against {}.", name(curve.y), name(curve.x));
    for series in &curve.series {
        let (Some(first), Some(last)) = (points(series).next(), points(series).last()) else { continue };
        let most = points(series).map(|[_, y]| y).fold(f64::MIN, f64::max);
        let kind = if series.measured { "measured" } else { "formula" };
        let place =
            |[x, y]: [f64; 2]| format!("{} at {}", with_unit(y, curve.y.unit), with_unit(x, curve.x.unit));
        text.push_str(&format!(
            " {} ({kind}): from {} to {}, at most {}.",
            series.name,
            place(first),
            place(last),
            with_unit(most, curve.y.unit),
        ));
    }
    text
}

/// The points as a table: headers, and rows by x, of which there are `most` at most.
pub(super) fn table(curve: &Curve, most: usize) -> (Vec<String>, Vec<Vec<String>>) {
    let header = std::iter::once(name(curve.x)).chain(curve.series.iter().map(legend)).collect();
    let mut places: Vec<f64> = curve.series.iter().flat_map(points).map(|[x, _]| x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let row = |x: f64| {
        let value = |series: &Series| {
            let point = points(series).find(|[at, _]| *at == x);
            point.map_or_else(|| "·".to_owned(), |[_, y]| quantity(y))
        };
        std::iter::once(quantity(x)).chain(curve.series.iter().map(value)).collect()
    };
    (header, spread(&places, most).into_iter().map(row).collect())
}

/// `most` values at most, evenly chosen, the first and the last among them.
fn spread<T: Copy>(values: &[T], most: usize) -> Vec<T> {
    if values.len() <= most || most < 2 {
        return values.to_vec();
    }
    (0..most).map(|index| values[index * (values.len() - 1) / (most - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_largest_value() {
        let labels = |most| Scale::to_a_tick(most, 5).labels().join(" ");
        assert_eq!(labels(50.0), "0 10 20 30 40 50");
        assert_eq!(labels(13.7), "0 5 10 15");
        assert_eq!(labels(0.9), "0 0.2 0.4 0.6 0.8 1");
        assert_eq!(labels(120_000.0), "0 25,000 50,000 75,000 100,000 125,000");
        assert_eq!(labels(48_000_000.0), "0 10 M 20 M 30 M 40 M 50 M");
        assert_eq!(labels(0.0), labels(f64::NAN));
        let scale = Scale::to_the_end(2048.0, 5);
        assert_eq!((scale.labels().join(" "), scale.place(2048.0)), ("0 500 1,000 1,500 2,000".into(), 1.0));
    }

    #[test]
    fn a_table_takes_in_all_series_and_not_too_many_points() {
        let axis = |label| Axis { label, unit: "s" };
        let series =
            |name: &str, measured, points: Vec<[f64; 2]>| Series { name: name.into(), measured, points };
        let curve = Curve {
            title: "t".into(),
            x: axis("time"),
            y: axis("y"),
            series: vec![
                series("a", true, (0..100).map(|n| [f64::from(n), 1.0]).collect()),
                series("b", false, vec![[0.0, 2.0], [99.0, f64::NAN]]),
            ],
        };
        let (header, rows) = table(&curve, 10);
        assert_eq!(header, ["time (s)", "a", "b (formula)"]);
        assert_eq!(rows.len(), 10);
        assert_eq!((rows[0].join(" "), rows[9].join(" ")), ("0 1 2".into(), "99 1 ·".into()));
    }
}
