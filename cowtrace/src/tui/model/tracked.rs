//! From reports to frames: what is known of each process, and how much of it the frame before had.

use std::{cmp::Reverse, collections::HashMap, rc::Rc};

use super::{Figures, ForkRow, Frame, Identity, Row, Totals};
use crate::model::{BackendFacts, Fork, ForkEnd, ForkKind, KernelFacts, Lost, Process, Report};

/// How long processes that have ended are shown, ns.
const ENDED_SHOWN_NS: u64 = 5_000_000_000;
/// How many of them at most: those that copied the most.
const ENDED_SHOWN: usize = 500;
/// How long forks that have ended are shown, ns, and the cost that makes them worth it, bytes.
const FORKS_SHOWN_NS: u64 = 15_000_000_000;
const FORKS_WORTH_BYTES: u64 = 1 << 20;
/// How long after its end a process may be told of for the first time, ns.
const LATE_NS: u64 = 1_000_000_000;

/// What is known of the traced ones.
pub struct Tracked {
    processes: HashMap<Identity, Known>,
    forks: Vec<Rc<Fork>>,
    foreseen: bool,
    /// Of the session; from the last report.
    facts: Option<Facts>,
    totals: Figures,
    /// Totals and time of the frame before, if there was one.
    before: Option<(Figures, u64)>,
    ended: usize,
}

struct Facts {
    at_ns: u64,
    backend: BackendFacts,
    kernel: KernelFacts,
    lost: Lost,
}

struct Known {
    process: Rc<Process>,
    /// Last seen.
    figures: Figures,
    /// In the frame before.
    before: Figures,
}

impl Default for Tracked {
    fn default() -> Tracked {
        Tracked {
            processes: HashMap::new(),
            forks: Vec::new(),
            foreseen: false,
            facts: None,
            totals: Figures::NONE,
            before: None,
            ended: 0,
        }
    }
}

impl Tracked {
    /// Nothing is known yet; `foreseen`: forks will have forecasts.
    pub fn new(foreseen: bool) -> Tracked {
        Tracked { foreseen, ..Tracked::default() }
    }

    /// Takes in a report of all processes and forks that live, and of those that ended since the one before.
    pub fn take(&mut self, report: Report) {
        let frame_ns = self.before.map_or(0, |(_, at_ns)| at_ns);
        for process in report.processes {
            let identity = Identity::of(&process);
            let known = self.processes.get(&identity);
            // One whose end was lost is handed over as long as the session lasts.
            if known.is_none() && process.end_ns.is_some_and(|end| end + LATE_NS < frame_ns) {
                continue;
            }
            let (before, last) =
                known.map_or((Figures::NONE, Figures::NONE), |known| (known.before, known.figures));
            let was_living = known.is_none_or(|known| known.process.end_ns.is_none());
            if was_living && process.end_ns.is_some() {
                self.ended += 1;
            }
            let figures = Figures::of(&process);
            self.totals += figures.since(&last);
            self.processes.insert(identity, Known { process: Rc::new(process), figures, before });
        }
        // Those in flight are all handed over again.
        self.forks.retain(|fork| fork.ended_by != ForkEnd::Running);
        let shown = |fork: &Fork| {
            fork.kind == ForkKind::Fork
                && (fork.ended_by == ForkEnd::Running
                    || fork.extra_peak_bytes.unwrap_or(0) >= FORKS_WORTH_BYTES)
        };
        self.forks.extend(report.forks.into_iter().filter(shown).map(Rc::new));
        self.facts = Some(Facts {
            at_ns: report.duration_ns,
            backend: report.backend,
            kernel: report.kernel,
            lost: report.lost,
        });
    }

    /// What is known of a process.
    pub fn process(&self, identity: Identity) -> Option<Rc<Process>> {
        self.processes.get(&identity).map(|known| Rc::clone(&known.process))
    }

    /// A frame of what is known, with rates since the frame before; nothing before the first report.
    pub fn frame(&mut self) -> Option<Frame> {
        let facts = self.facts.as_ref()?;
        let at_ns = facts.at_ns;
        let passed = self.before.map_or(0, |(_, before)| at_ns.saturating_sub(before));
        let rows: Vec<Row> = self
            .processes
            .values_mut()
            .map(|known| {
                let rates = known.figures.since(&known.before).per(passed);
                known.before = known.figures;
                Row { process: Rc::clone(&known.process), figures: known.figures, rates }
            })
            .collect();
        let since = self.before.map_or(Figures::NONE, |(before, _)| before);
        let living = rows.iter().filter(|row| row.process.end_ns.is_none()).count();
        let totals = Totals {
            figures: self.totals,
            rates: self.totals.since(&since).per(passed),
            living,
            ended: std::mem::take(&mut self.ended),
            in_flight: self.forks.iter().filter(|fork| fork.ended_by == ForkEnd::Running).count(),
        };
        let frame = Frame {
            at_ns,
            backend: facts.backend.clone(),
            release: facts.kernel.release.clone(),
            page_size: facts.kernel.page_size,
            forks: self.fork_rows(),
            rows,
            foreseen: self.foreseen,
            totals,
            lost: facts.lost,
        };
        self.before = Some((self.totals, at_ns));
        self.forget(at_ns);
        Some(frame)
    }

    fn fork_rows(&self) -> Vec<ForkRow> {
        let mut latest: HashMap<u32, (u64, &str)> = HashMap::new();
        for (identity, known) in &self.processes {
            let entry = latest.entry(identity.pid).or_default();
            if identity.start_ns >= entry.0 {
                *entry = (identity.start_ns, &known.process.comm);
            }
        }
        let comm = |pid: u32| latest.get(&pid).map_or_else(String::new, |(_, comm)| (*comm).to_owned());
        let mut rows: Vec<ForkRow> =
            self.forks.iter().map(|fork| ForkRow { fork: Rc::clone(fork), comm: comm(fork.child) }).collect();
        rows.sort_by_key(|row| {
            let fork = &row.fork;
            (fork.ended_by != ForkEnd::Running, Reverse(fork.extra_peak_bytes), Reverse(fork.at_ns))
        });
        rows
    }

    /// Forgets what ended long ago, so that memory does not grow with it.
    fn forget(&mut self, now_ns: u64) {
        self.processes.retain(|_, known| {
            known.process.end_ns.is_none_or(|end| now_ns.saturating_sub(end) < ENDED_SHOWN_NS)
        });
        let mut ended: Vec<(Reverse<Option<u64>>, Identity)> = self
            .processes
            .iter()
            .filter(|(_, known)| known.process.end_ns.is_some())
            .map(|(&identity, known)| (Reverse(known.figures.copies), identity))
            .collect();
        if ended.len() > ENDED_SHOWN {
            ended.sort_unstable();
            for (_, identity) in ended.drain(ENDED_SHOWN..) {
                self.processes.remove(&identity);
            }
        }
        let end_ns = |fork: &Fork| fork.at_ns + fork.lifetime_ns.unwrap_or(0);
        self.forks.retain(|fork| {
            fork.ended_by == ForkEnd::Running || now_ns.saturating_sub(end_ns(fork)) < FORKS_SHOWN_NS
        });
    }
}
