//! Why a process is not exact, as far as that can be known.

use crate::{
    model::{BackendFacts, Lost, Process},
    proc::Exited,
};

/// For what nothing explains.
pub(super) const UNEXPLAINED: &str = "not explained: please report, with `cowtrace doctor`";

/// What is known of the run as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub backend: &'a BackendFacts,
    /// By the tracer.
    pub lost: &'a Lost,
    /// By the kernel: records of exits that found no room.
    pub lost_records: u64,
    /// Somebody has switched delay accounting off.
    pub accounting_off: bool,
}

impl Run<'_> {
    /// Why the two count differently.
    pub fn copies(&self, ours: u64, kernels: u64, exited: &Exited) -> String {
        let threads = exited.threads > 1;
        let mut causes = Vec::new();
        if kernels < ours {
            causes.extend(self.accounting());
            causes.extend(self.records().filter(|_| threads));
        } else {
            causes.extend(self.slots().filter(|_| threads));
            causes.extend(self.events());
        }
        if !causes.is_empty() {
            return causes.join("; or ");
        }
        if kernels > ours && self.is_blind_to("gup") {
            causes.push(format!(
                "copies without a page fault (ptrace, process_vm_writev, direct I/O, mlockall) are in the kernel's count, and the {} \
                 backend does not see them",
                self.backend.name
            ));
        }
        if threads && !self.tells_raced() {
            causes.push(format!(
                "two threads that write to one page at the same moment: the {} backend cannot tell which of them copied it",
                self.backend.name
            ));
        }
        match causes.is_empty() {
            true => UNEXPLAINED.to_owned(),
            false => format!(
                "perhaps {}; if that cannot be, please report, with `cowtrace doctor`",
                causes.join("; or ")
            ),
        }
    }

    /// Why more faults were counted than the kernel has solved.
    pub fn faults(&self, counted: u64, solved: u64, exited: &Exited) -> String {
        let why = self.records().filter(|_| exited.threads > 1).unwrap_or_else(|| UNEXPLAINED.to_owned());
        format!("{counted} write faults, of which the kernel has solved no more than {solved}: {why}")
    }

    /// Why there is no count of ours.
    pub fn unknown(&self, process: &Process) -> String {
        let reason = self.backend.unknown.iter().find(|reason| reason.starts_with("wpcopy"));
        let name = &self.backend.name;
        match reason {
            Some(reason) => format!("the {name} backend does not know it ({reason})"),
            None => format!("the {name} backend does not know how many copies {} made", process.comm),
        }
    }

    /// Why the kernel's record of a process that has ended is missing.
    pub fn no_record(&self) -> String {
        self.records().unwrap_or_else(|| UNEXPLAINED.to_owned())
    }

    /// Why a child of a traced process is not traced.
    pub fn not_traced(&self) -> String {
        let no_slot = "no slot for it, or for its parent (--max-tasks follows more)";
        let slot = (self.lost.processes > 0).then(|| no_slot.to_owned());
        let events = self
            .events()
            .map(|lost| format!("{lost}: that of this fork, or an earlier one, may be among them"));
        if let Some(cause) = slot.into_iter().chain(events).reduce(|one, other| format!("{one}; or {other}"))
        {
            return cause;
        }
        format!(
            "its parent was traced when it ended, and it was not: not a descendant (a debugger or a subreaper has \
                 children that are not its own), or else {UNEXPLAINED}"
        )
    }

    fn accounting(&self) -> Option<String> {
        self.accounting_off.then(|| {
            "kernel.task_delayacct was switched off during the run: the kernel counts no copies of what started after \
             that"
            .to_owned()
        })
    }

    fn records(&self) -> Option<String> {
        (self.lost_records > 0)
            .then(|| format!("the kernel had no room for {} of its records of exits", self.lost_records))
    }

    fn slots(&self) -> Option<String> {
        (self.lost.processes > 0).then(|| {
            format!("{} processes or threads found no slot (--max-tasks follows more)", self.lost.processes)
        })
    }

    fn events(&self) -> Option<String> {
        (self.lost.events > 0).then(|| format!("the tracer lost {} events", self.lost.events))
    }

    fn is_blind_to(&self, what: &str) -> bool {
        self.backend.blind_to.iter().any(|blind| blind == what)
    }

    /// Whether it is known which copies were thrown away because another thread was faster.
    fn tells_raced(&self) -> bool {
        !self.backend.unknown.iter().any(|reason| reason.starts_with("raced"))
    }
}
