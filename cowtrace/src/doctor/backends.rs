//! What is lost because a better backend does not work here.

use super::finding::{Finding, State};
use crate::probe::{Backend, BackendTrial, Examination};

/// What a backend that cannot see it misses.
fn missed(what: &str) -> &str {
    match what {
        "gup" => "copies made without a page fault (by ptrace, process_vm_writev, direct I/O, io_uring)",
        "pinned" => "copies that fork itself makes of pinned pages",
        other => other,
    }
}

/// `None` if the best is used, or nothing works.
pub(super) fn finding(examination: &Examination) -> Option<Finding> {
    let of = |backend: Backend| examination.backends.iter().position(|trial| trial.backend == backend);
    let index = of(examination.chosen?)?;
    let (better, rest) = examination.backends.split_at(index);
    let used = rest.first()?;
    let best = better.first()?;
    let names = better.iter().map(|trial| trial.backend.name()).collect::<Vec<_>>().join(" and ");
    let verb = if better.len() == 1 { "does" } else { "do" };
    let found = format!("{names} {verb} not work here, {} does", used.backend.name());
    let lost = lost(best, used);
    if lost.is_empty() {
        return Some(Finding::new("backends", State::Unneeded, found));
    }
    Some(Finding::new("backends", State::Limited, found).but(
        format!("not seen are {}", lost.join(", and ")),
        "use a kernel that takes fentry programs or kprobes (CONFIG_KPROBES=y), as Debian's do",
    ))
}

fn lost(best: &BackendTrial, used: &BackendTrial) -> Vec<&'static str> {
    used.blind_to.iter().filter(|what| !best.blind_to.contains(what)).map(|what| missed(what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examination(chosen: Option<Backend>) -> Examination {
        let trial = |backend: Backend| BackendTrial {
            backend,
            works: chosen == Some(backend),
            refusal: None,
            blind_to: if backend == Backend::Tracepoint { vec!["gup", "pinned"] } else { Vec::new() },
            hooks: Vec::new(),
        };
        let backends = [Backend::Fentry, Backend::Kprobe, Backend::Tracepoint].map(trial).into();
        Examination { backends, chosen }
    }

    #[test]
    fn what_only_the_better_ones_see_is_lost() {
        let finding = finding(&examination(Some(Backend::Tracepoint))).unwrap();
        assert_eq!(finding.found, "fentry and kprobe do not work here, tracepoint does");
        assert!(finding.costs.is_some_and(|costs| costs.contains("ptrace") && costs.contains("pinned")));
    }

    #[test]
    fn nothing_is_lost_with_one_that_sees_as_much() {
        let finding = finding(&examination(Some(Backend::Kprobe))).unwrap();
        assert_eq!((finding.state, finding.costs), (State::Unneeded, None));
        assert_eq!(super::finding(&examination(Some(Backend::Fentry))), None);
        assert_eq!(super::finding(&examination(None)), None);
    }
}
