//! How long it takes to start a program, in three ways.

use anyhow::ensure;

use crate::lab::{experiment::Lab, report::Figures, story::PARENT};

/// Launches of each kind; the ways take turns, so that a busy machine is busy for all.
const ROUNDS: u64 = 20;

/// By the number that the step gives them.
const WAYS: [&str; 3] = ["fork and exec", "vfork and exec", "posix_spawn"];
const FORK: usize = 0;
const VFORK: usize = 1;

/// Times from the call until the program had ended, ns, ascending, for each way.
#[derive(Debug)]
pub(super) struct LaunchTimes([Vec<u64>; 3]);

impl LaunchTimes {
    /// Of a parent with so many pages of written memory.
    pub fn measure(lab: &mut Lab<'_>, pages: u64) -> anyhow::Result<LaunchTimes> {
        let args = [pages, ROUNDS].map(|number| number.to_string());
        let mut workload = lab.start("launch-times", &args, &["parent"])?;
        workload.go(PARENT, &[PARENT], "launched")?;
        let samples = workload.take_samples();
        workload.finish()?;
        let mut times = LaunchTimes(Default::default());
        for [way, ns, ..] in samples {
            if let Some(of_way) = usize::try_from(way).ok().and_then(|way| times.0.get_mut(way)) {
                of_way.push(ns);
            }
        }
        ensure!(
            times.0.iter().all(|of_way| !of_way.is_empty()),
            "the step has not reported each way's times"
        );
        times.0.iter_mut().for_each(|of_way| of_way.sort_unstable());
        Ok(times)
    }

    /// The shortest time with fork, as a multiple of the shortest with vfork: what else ran on the machine
    /// can only have made the others longer.
    pub fn fork_over_vfork(&self) -> Option<f64> {
        let least = |way: usize| self.0[way].first().map(|&ns| ns as f64);
        Some(least(FORK)? / least(VFORK)?)
    }

    /// Least and median of each way, for these parents.
    pub fn table(parents: &[(&str, LaunchTimes)]) -> Figures {
        let ms = |ns: u64| format!("{:.2}", ns as f64 / 1e6);
        let rows = parents.iter().flat_map(|(parent, times)| {
            WAYS.iter().zip(&times.0).map(move |(way, of_way)| {
                let (least, median) = (of_way.first(), of_way.get(of_way.len() / 2));
                let cell = |ns: Option<&u64>| ns.map_or_else(String::new, |&ns| ms(ns));
                vec![format!("{parent}, {way}"), cell(least), cell(median)]
            })
        });
        Figures {
            title: format!(
                "Time from the call until a program that ends at once has ended, of {ROUNDS} launches"
            ),
            columns: ["parent and way", "least, ms", "median, ms"].map(str::to_owned).into(),
            rows: rows.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_the_shortest_times() {
        let times = LaunchTimes([vec![3000, 9000], vec![1000, 1500, 8000], vec![1000]]);
        assert_eq!(times.fork_over_vfork(), Some(3.0));
        let table = LaunchTimes::table(&[("tiny", times)]);
        assert_eq!(table.rows[1], ["tiny, vfork and exec", "0.00", "0.00"]);
        assert_eq!(table.rows.len(), 3);
        assert_eq!(LaunchTimes(Default::default()).fork_over_vfork(), None);
    }
}
