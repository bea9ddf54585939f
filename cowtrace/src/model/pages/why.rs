//! Why a page was copied more than once: which forks had shared it anew, or what else may have happened.

use cowtrace_abi::Kind;

use super::{PageRun, PastForks};

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

    fn of_copies(&self, copies: u64, last_ns: u64, kinds: u16) -> String {
        let own = self.forks_ns.partition_point(|&at| at <= last_ns) as u64 + self.past.until(last_ns);
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

    fn why(sharing: &Sharing, copies: u32, last_ns: u64) -> String {
        sharing.why(&PageRun { start: 0, pages: 1, copies, replacements: 0 }, last_ns, 0)
    }

    #[test]
    fn forks_until_then_explain_as_many_copies() {
        let mut sharing = Sharing { forks_ns: vec![10, 20, 30], ..Sharing::default() };
        assert_eq!(why(&sharing, 3, 30), "shared anew by 3 forks");
        assert_eq!(why(&sharing, 2, 30), "shared anew by 2 of 3 forks");
        assert_eq!(why(&sharing, 2, 25), "shared anew by 2 forks");
        assert!(why(&sharing, 2, 15).starts_with("not explained by the 1 fork alone; perhaps it came back"));
        sharing.before = Before::Creation;
        assert_eq!(why(&sharing, 2, 15), "shared anew by 2 forks, one of which made this process");
        assert!(why(&sharing, 5, 99).starts_with("not explained by the 4 forks alone; perhaps"));
    }

    #[test]
    fn a_fork_before_tracing_is_supposed_only_where_it_is_needed() {
        let sharing = Sharing { forks_ns: vec![10, 20], before: Before::Unknown, ..Sharing::default() };
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
