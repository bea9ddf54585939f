//! Figures as they stand in columns.

use super::Looks;
use crate::export::{bytes, thousands};

/// A count.
pub(super) fn count(value: Option<u64>, width: usize, looks: Looks) -> String {
    match value {
        None => "?".to_owned(),
        Some(0) => looks.nothing().to_owned(),
        Some(value) => fitting(value, width),
    }
}

/// Bytes.
pub(super) fn size(value: Option<u64>, looks: Looks) -> String {
    match value {
        None => "?".to_owned(),
        Some(0) => looks.nothing().to_owned(),
        Some(value) => bytes(value),
    }
}

/// Pages per second; nothing while it is not known.
pub(super) fn rate(value: Option<f64>, width: usize, looks: Looks) -> String {
    match value {
        None => String::new(),
        Some(value) if value <= 0.0 => looks.nothing().to_owned(),
        Some(value) if value < 9.95 => format!("{value:.1}"),
        Some(value) => fitting(value.round() as u64, width),
    }
}

/// Bytes per second.
pub(super) fn byte_rate(value: Option<f64>, looks: Looks) -> String {
    match value {
        None => String::new(),
        Some(value) => size(Some(value.round() as u64), looks),
    }
}

/// In full if there is room, else in thousands and so on.
fn fitting(value: u64, width: usize) -> String {
    let full = thousands(value);
    if full.len() <= width {
        return full;
    }
    const UNITS: [(u64, char); 4] =
        [(1_000_000_000_000, 'T'), (1_000_000_000, 'G'), (1_000_000, 'M'), (1_000, 'k')];
    match UNITS.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{:.1}{unit}", value as f64 / *size as f64),
        None => full,
    }
}

/// How long something has lasted.
pub(super) fn age(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0..60 => format!("{:.1} s", ns as f64 / 1e9),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_to_their_columns() {
        let looks = Looks { color: false, unicode: true };
        assert_eq!(count(Some(1_234_567), 9, looks), "1,234,567");
        assert_eq!(count(Some(1_234_567), 7, looks), "1.2M");
        assert_eq!(rate(Some(0.0), 7, looks), "·");
        assert_eq!(rate(Some(3.08), 7, looks), "3.1");
        assert_eq!(rate(Some(9.97), 7, looks), "10");
        assert_eq!(rate(None, 7, looks), "");
        assert_eq!(
            [0, 61, 3_700, 90_000].map(|s| age(s * 1_000_000_000)),
            ["0.0 s", "1m01s", "1h01m", "1d01h"]
        );
    }
}
