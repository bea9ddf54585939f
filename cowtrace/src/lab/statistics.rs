//! One figure from many measurements.

/// The one in the middle; of an even number of them, the upper of the two.
pub(super) fn median(values: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// A straight line: a fixed part, and a part for each unit of x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// At x = 0.
    pub fixed: f64,
    /// For each unit of x.
    pub slope: f64,
}

impl Line {
    /// The line with the least squares of relative distances: a long time is measured no more exactly, in
    /// per cent, than a short one. `None` without two points of different x, and for y that are not positive.
    pub fn through(points: &[[f64; 2]]) -> Option<Line> {
        let weighted =
            |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|&[x, y]| of(x, y) / (y * y)).sum::<f64>();
        let weight = weighted(&|_, _| 1.0);
        let (x, y) = (weighted(&|x, _| x) / weight, weighted(&|_, y| y) / weight);
        let along = weighted(&|at, _| (at - x).powi(2));
        let across = weighted(&|at, value| (at - x) * (value - y));
        (points.iter().all(|&[_, y]| y > 0.0) && along > 0.0).then(|| {
            let slope = across / along;
            Line { fixed: y - slope * x, slope }
        })
    }

    /// y on the line.
    pub fn at(self, x: f64) -> f64 {
        self.fixed + self.slope * x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median([5, 1, 9]), Some(5));
        assert_eq!(median([4, 1, 3, 2]), Some(3));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_line_is_found_through_points_on_and_around_it() {
        let exact = Line::through(&[[1.0, 12.0], [10.0, 30.0], [50.0, 110.0]]).unwrap();
        assert!((exact.fixed - 10.0).abs() < 1e-9 && (exact.slope - 2.0).abs() < 1e-9, "{exact:?}");
        // At x = 0, 3 counts a ninth of 1.
        let around = Line::through(&[[0.0, 1.0], [0.0, 3.0], [2.0, 5.0]]).unwrap();
        assert!((around.at(0.0) - 1.2).abs() < 1e-9 && (around.at(2.0) - 5.0).abs() < 1e-9, "{around:?}");
        assert_eq!(Line::through(&[[3.0, 1.0], [3.0, 2.0]]), None);
        assert_eq!(Line::through(&[[1.0, 0.0], [2.0, 1.0]]), None);
        assert_eq!(Line::through(&[]), None);
    }
}
