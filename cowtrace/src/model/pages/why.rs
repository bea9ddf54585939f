//! Why a page was copied more than once: which forks had shared it anew, or what else may have happened.

use cowtrace_abi::Kind;

use super::{PageRun, PastForks};

/// When a copy was is told by the kernel's tick, which may be so late on a busy virtual machine, ns.
const LATE_NS: u64 = 100_000_000;

/// What may have shared a process's pages before its own forks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// Nothing: it was started as a new program.
    #[default]
    Nothing,
    /// The fork that made it.
    Creation,
    /// It ran before it was traced.
    Unknown,
}

/// What shared the pages of a process anew.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// When it forked, monotonic ns, ascending; without vforks, which share all memory.
    pub forks_ns: Vec<u64>,
    /// The same of forks that are known by their times alone.
    pub past: PastForks,
    /// What was before that.
    pub before: Before,
    /// It became another program meanwhile.
    pub exec: bool,
    /// Copies of which only one of two was used are not told apart.
    pub counts_raced: bool,
}

impl Sharing {
    /// The reason for a run of pages with these counts, the last one no later than `last_ns`.
    pub(super) fn why(&self, run: &PageRun, last_ns: u64, kinds: u16) -> String {
        let mut reasons = Vec::new();
        if run.copies > 1 {
            reasons.push(self.of_copies(u64::from(run.copies), last_ns, kinds));
        }
        if run.replacements > 1 {
            reasons.push(of_replacements(kinds));
        }
        reasons.join("; ")
    }

    fn forks_until(&self, at_ns: u64) -> u64 {
        self.forks_ns.partition_point(|&at| at <= at_ns) as u64 + self.past.until(at_ns)
    }

    fn of_copies(&self, copies: u64, last_ns: u64, kinds: u16) -> String {
        let needed = copies - u64::from(self.before == Before::Creation);
        // Forks that seem to have come just after the last copy are taken for earlier where only they explain it.
        let late = self.forks_until(last_ns.saturating_add(LATE_NS)).min(needed);
        let own = self.forks_until(last_ns).max(late);
        let shared = match self.before {
            Before::Nothing => own,
            Before::Creation => own + 1,
            // What may have been is asked for only where it is needed.
            Before::Unknown => own.max(copies.min(own + 1)),
        };
        if copies <= shared {
            let which = if copies == shared {
                format!("shared anew by {shared} forks")
            } else {
                format!("shared anew by {copies} of {shared} forks")
            };
            return match self.before {
                Before::Nothing => which,
                Before::Unknown if shared == own => which,
                Before::Creation => format!("{which}, one of which made this process"),
                Before::Unknown => format!("{which}, counting one that may have been before tracing"),
            };
        }
        let forks = if shared == 1 { "the 1 fork" } else { &format!("the {shared} forks") };
        let mut perhaps = Vec::new();
        if self.exec {
            perhaps.push("the process became another program (exec), with other memory at this address");
        }
        if has(kinds, Kind::Ksm) {
            perhaps.push("KSM merged it meanwhile");
        }
        if self.counts_raced {
            perhaps.push("two threads copied it at once, and one copy was dropped");
        }
        perhaps.push("it came back from swap, or was moved here (mremap), still shared");
        format!("not explained by {forks} alone; perhaps {}", perhaps.join(", or "))
    }
}

fn has(kinds: u16, kind: Kind) -> bool {
    kinds >> kind as u8 & 1 != 0
}

fn of_replacements(kinds: u16) -> String {
    let words = [
        (Kind::Zero, "the zero page was read here again (MADV_DONTNEED, or mapped anew) and written"),
        (Kind::FileAfterRead, "the file's page was read again (MADV_DONTNEED, or mapped anew) and written"),
        (Kind::FileFirstWrite, "the private page was dropped (MADV_DONTNEED, or mapped anew) and written"),
        (Kind::Ksm, "KSM merged it again"),
        (Kind::Hugetlb, "a huge page, shared anew by forks"),
        (Kind::Pinned, "pinned, and so copied at each fork"),
    ];
    let known: Vec<&str> =
        words.iter().filter(|(kind, _)| has(kinds, *kind)).map(|(_, word)| *word).collect();
    known.join(", or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn why(sharing: &Sharing, copies: u32, last_s: u64) -> String {
        sharing.why(&PageRun { start: 0, pages: 1, copies, replacements: 0 }, last_s * SECOND, 0)
    }

    #[test]
    fn forks_until_then_explain_as_many_copies() {
        let mut sharing =
            Sharing { forks_ns: [10, 20, 30].map(|s| s * SECOND).to_vec(), ..Sharing::default() };
        assert_eq!(why(&sharing, 3, 30), "shared anew by 3 forks");
        assert_eq!(why(&sharing, 2, 30), "shared anew by 2 of 3 forks");
        assert_eq!(why(&sharing, 2, 25), "shared anew by 2 forks");
        assert!(why(&sharing, 2, 15).starts_with("not explained by the 1 fork alone; perhaps it came back"));
        sharing.before = Before::Creation;
        assert_eq!(why(&sharing, 2, 15), "shared anew by 2 forks, one of which made this process");
        assert!(why(&sharing, 5, 99).starts_with("not explained by the 4 forks alone; perhaps"));
    }

    #[test]
    fn a_fork_that_seems_to_be_a_moment_late_is_taken_where_it_is_needed() {
        let forks_ns = vec![10 * SECOND, 20 * SECOND + LATE_NS];
        let mut sharing = Sharing { forks_ns, ..Sharing::default() };
        assert_eq!(why(&sharing, 2, 20), "shared anew by 2 forks");
        sharing.forks_ns[1] += 1;
        assert!(why(&sharing, 2, 20).starts_with("not explained by the 1 fork"));
        sharing.before = Before::Creation;
        assert_eq!(why(&sharing, 2, 20), "shared anew by 2 forks, one of which made this process");
    }

    #[test]
    fn a_fork_before_tracing_is_supposed_only_where_it_is_needed() {
        let sharing = Sharing {
            forks_ns: vec![10 * SECOND, 20 * SECOND],
            before: Before::Unknown,
            ..Sharing::default()
        };
        assert_eq!(why(&sharing, 2, 30), "shared anew by 2 forks");
        assert_eq!(
            why(&sharing, 3, 30),
            "shared anew by 3 forks, counting one that may have been before tracing"
        );
        assert!(why(&sharing, 4, 30).starts_with("not explained by the 3 forks"));
    }

    #[test]
    fn what_else_is_known_is_told() {
        let sharing = Sharing { exec: true, counts_raced: true, ..Sharing::default() };
        let text =
            sharing.why(&PageRun { start: 0, pages: 1, copies: 2, replacements: 3 }, 0, 1 << Kind::Ksm as u8);
        let parts = ["(exec)", "KSM merged it meanwhile", "two threads", "; KSM merged it again"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}
