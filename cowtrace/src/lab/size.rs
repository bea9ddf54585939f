//! How much memory an experiment works with: `--size`, and whether it fits.

use procfs::{Current as _, Meminfo};

use super::Experiment;

/// For an experiment whose memory can be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Bytes, if nobody chooses.
    pub default_bytes: u64,
    /// With less, its claims say nothing.
    pub least_bytes: u64,
    /// Memory in use at the peak, all processes and the lab itself together, in hundredths of the chosen size.
    pub peak_percent: u64,
}

/// A size that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSize {
    /// Not a number of bytes.
    #[error("'{0}' is no size; give bytes with an optional suffix, such as 256M or 4G")]
    Unreadable(String),
    /// None of the experiments has a size to choose.
    #[error("--size has no meaning for {0}: the size of its memory is part of what it shows")]
    Fixed(String),
    /// Too small to show anything.
    #[error("--size {given}: experiment {id} shows something from {least} on", given = Bytes(*given), least = Bytes(*least))]
    TooSmall {
        /// The experiment.
        id: &'static str,
        /// What was asked for, bytes.
        given: u64,
        /// What is the least, bytes.
        least: u64,
    },
    /// More than the memory.
    #[error(
        "--size {given}: experiment {id} needs {needed} of memory at its peak, and {available} are available \
         here; the largest size that fits is {fits}",
        given = Bytes(*given), needed = Bytes(*needed), available = Bytes(*available), fits = Bytes(*fits)
    )]
    TooLarge {
        /// The experiment.
        id: &'static str,
        /// What was asked for, bytes.
        given: u64,
        /// Needed for that, bytes.
        needed: u64,
        /// `MemAvailable`, bytes.
        available: u64,
        /// The largest size that could be asked for, bytes.
        fits: u64,
    },
}

/// Reads `--size`: bytes, or with a suffix, in powers of 1024.
///
/// # Errors
/// It is not a number of bytes.
pub fn parse_size(text: &str) -> Result<u64, BadSize> {
    let config = parse_size::Config::new().with_binary();
    config.parse_size(text).map_err(|_| BadSize::Unreadable(text.to_owned()))
}

/// The size that each of these experiments works with: the chosen one where it has a size to choose.
///
/// # Errors
/// None has, or it is too small or too large for one of them.
pub(super) fn check(selected: &[&Experiment], chosen: Option<u64>) -> Result<(), BadSize> {
    let scales = || selected.iter().filter_map(|experiment| Some((experiment.id, experiment.size?)));
    if chosen.is_some() && scales().next().is_none() {
        let ids: Vec<&str> = selected.iter().map(|experiment| experiment.id).collect();
        return Err(BadSize::Fixed(ids.join(", ")));
    }
    let available = available_bytes();
    for (id, scale) in scales() {
        fits(id, scale, chosen.unwrap_or(scale.default_bytes), available)?;
    }
    Ok(())
}

fn fits(id: &'static str, scale: Scale, given: u64, available: Option<u64>) -> Result<(), BadSize> {
    if given < scale.least_bytes {
        return Err(BadSize::TooSmall { id, given, least: scale.least_bytes });
    }
    let needed = given.saturating_mul(scale.peak_percent) / 100;
    match available {
        Some(available) if needed > available => {
            // As it would be typed.
            let unit = if available >> 31 > 0 { 1 << 30 } else { 1 << 20 };
            let fits = available / scale.peak_percent * 100 / unit * unit;
            Err(BadSize::TooLarge { id, given, needed, available, fits })
        }
        _ => Ok(()),
    }
}

/// What the kernel thinks can be used without swapping; `None` where it does not say.
fn available_bytes() -> Option<u64> {
    Meminfo::current().ok()?.mem_available
}

/// The size of so many pages, in kB as smaps has them.
pub(super) fn kb(pages: u64) -> u64 {
    pages * procfs::page_size() / 1024
}

/// A number of bytes for people: `256M`, `1.5G`; the suffixes are those of `--size`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
        let Some((name, shift)) = units.into_iter().find(|(_, shift)| self.0 >> shift > 0) else {
            return write!(f, "{}", self.0);
        };
        let amount = self.0 as f64 / (1u64 << shift) as f64;
        if amount.fract() < 0.05 { write!(f, "{amount:.0}{name}") } else { write!(f, "{amount:.1}{name}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { default_bytes: 256 << 20, least_bytes: 1 << 20, peak_percent: 220 };

    #[test]
    fn suffixes_are_powers_of_1024() {
        assert_eq!(parse_size("4G").unwrap(), 4 << 30);
        assert_eq!(parse_size("256M").unwrap(), 256 << 20);
        assert_eq!(parse_size("4096").unwrap(), 4096);
        for bad in ["", "big", "-1", "1X"] {
            assert!(parse_size(bad).unwrap_err().to_string().contains("256M"), "{bad}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_figures() {
        assert!(fits("a", SCALE, 4 << 30, Some(9 << 30)).is_ok());
        let error = fits("a", SCALE, 1 << 40, Some(9 << 30)).unwrap_err().to_string();
        assert_eq!(
            error,
            "--size 1T: experiment a needs 2.2T of memory at its peak, and 9G are available here; the largest \
             size that fits is 4G"
        );
        let error = fits("a", SCALE, 0, None).unwrap_err().to_string();
        assert_eq!(error, "--size 0: experiment a shows something from 1M on");
    }
}
