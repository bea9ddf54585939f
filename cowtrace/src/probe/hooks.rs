//! Which program goes where, for each backend.

use std::fmt;

use cowtrace_abi::Kind;

use super::Backend;
use crate::kernel::{Attempt, KernelFunctions, KernelLayout, LayoutError};

/// What a program is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// A tracepoint, through the kernel's types.
    BtfTracepoint(&'static str),
    /// The entry of a function, through the kernel's types.
    Fentry(&'static str),
    /// The entry of a function, through a probe.
    Kprobe(&'static str),
    /// A tracepoint, through perf: category and name.
    Tracepoint(&'static str, &'static str),
}

impl Point {
    /// The function or tracepoint.
    pub(super) fn target(&self) -> &'static str {
        match self {
            Point::BtfTracepoint(name)
            | Point::Fentry(name)
            | Point::Kprobe(name)
            | Point::Tracepoint(_, name) => name,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::BtfTracepoint(name) => write!(f, "tp_btf {name}"),
            Point::Fentry(name) => write!(f, "fentry {name}"),
            Point::Kprobe(name) => write!(f, "kprobe {name}"),
            Point::Tracepoint(category, name) => write!(f, "tracepoint {category}:{name}"),
        }
    }
}

/// Kinds that need a hook which a backend can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    /// The backend does not work without it.
    Everything(&'static str),
    /// These kinds are unknown without it, and whatever else is named.
    Kinds(&'static [Kind], &'static str),
}

impl Gives {
    /// What is lost without the hook, in the user's words.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Gives::Everything(words) | Gives::Kinds(_, words) => words,
        }
    }
}

/// One hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// Programs that do the work: the first that the kernel accepts is used.
    pub(super) programs: &'static [&'static str],
    /// What it is put on.
    pub(super) point: Point,
    /// What it is for.
    pub(super) gives: Gives,
    /// Where the kernel refuses that: the programs and the place to take instead.
    pub(super) instead: Option<(&'static [&'static str], Point)>,
}

impl Hook {
    /// Whether the backend does not work without it.
    pub(super) fn is_required(&self) -> bool {
        matches!(self.gives, Gives::Everything(_))
    }
}

const PROCESSES: Gives = Gives::Everything("descendants of a traced process");
const PROGRAMS: Gives =
    Gives::Kinds(&[], "which program owns the pages that the kernel writes during an exec");

/// The hooks of a process's life, by BTF tracepoints; first of all, so that no fault is seen of an unknown process.
const BTF_LIFE: [Hook; 4] = [
    Hook {
        programs: &["task_exit", "task_exit_locked"],
        point: Point::BtfTracepoint("sched_process_exit"),
        gives: PROCESSES,
        instead: None,
    },
    Hook {
        programs: &["task_exec"],
        point: Point::BtfTracepoint("sched_process_exec"),
        gives: PROCESSES,
        instead: None,
    },
    Hook {
        programs: &["task_rename"],
        point: Point::BtfTracepoint("task_rename"),
        gives: PROGRAMS,
        instead: None,
    },
    Hook {
        programs: &["task_new", "task_new_locked"],
        point: Point::BtfTracepoint("task_newtask"),
        gives: PROCESSES,
        instead: None,
    },
];

/// The same by hooks that nothing preempts. perf's tracepoints need tracefs; where it is not mounted, the others do.
const PERF_LIFE: [Hook; 4] = [
    Hook {
        programs: &["perf_exit", "perf_exit_locked"],
        point: Point::Tracepoint("sched", "sched_process_exit"),
        gives: PROCESSES,
        instead: Some((BTF_LIFE[0].programs, BTF_LIFE[0].point)),
    },
    Hook {
        programs: &["perf_exec"],
        point: Point::Tracepoint("sched", "sched_process_exec"),
        gives: PROCESSES,
        instead: Some((BTF_LIFE[1].programs, BTF_LIFE[1].point)),
    },
    Hook {
        programs: &["perf_rename"],
        point: Point::Tracepoint("task", "task_rename"),
        gives: PROGRAMS,
        instead: Some((BTF_LIFE[2].programs, BTF_LIFE[2].point)),
    },
    Hook {
        programs: &["kprobe_new_task", "kprobe_new_task_locked"],
        point: Point::Kprobe("wake_up_new_task"),
        gives: PROCESSES,
        instead: None,
    },
];

const DENIED: Gives = Gives::Kinds(&[Kind::Denied], "denied writes");

/// For the function backends, which know the fault's address by themselves.
const PLAIN_SIGNAL: Hook = Hook {
    programs: &["signal_sent_plain"],
    point: Point::BtfTracepoint("signal_generate"),
    gives: DENIED,
    instead: None,
};

const TRACEPOINT_FAULTS: [Hook; 5] = {
    const FAULTS: Gives = Gives::Everything("page faults");
    const fn hook(programs: &'static [&'static str], name: &'static str, gives: Gives) -> Hook {
        Hook { programs, point: Point::BtfTracepoint(name), gives, instead: None }
    }
    [
        hook(&["signal_sent"], "signal_generate", DENIED),
        hook(&["rss_stat"], "rss_stat", FAULTS),
        hook(&["page_alloc"], "mm_page_alloc", FAULTS),
        hook(&["fault_kernel"], "page_fault_kernel", FAULTS),
        hook(&["fault_user"], "page_fault_user", FAULTS),
    ]
};

/// All hooks of a backend, in the order in which they are attached; an error if this kernel cannot have it.
pub(super) fn hooks(backend: Backend, layout: &KernelLayout) -> Result<Vec<Hook>, &LayoutError> {
    match backend {
        Backend::Tracepoint => {
            layout.tracepoints.as_ref()?;
            Ok([&BTF_LIFE[..], &TRACEPOINT_FAULTS[..]].concat())
        }
        Backend::Fentry => {
            let functions = function_hooks(layout.functions.as_ref()?, &FENTRY_PROGRAMS, Point::Fentry);
            Ok([&BTF_LIFE[..], &[PLAIN_SIGNAL], &functions].concat())
        }
        Backend::Kprobe => {
            let signal = Hook {
                programs: &["perf_signal"],
                point: Point::Tracepoint("signal", "signal_generate"),
                gives: DENIED,
                instead: Some((PLAIN_SIGNAL.programs, PLAIN_SIGNAL.point)),
            };
            let functions = function_hooks(layout.functions.as_ref()?, &KPROBE_PROGRAMS, Point::Kprobe);
            Ok([&PERF_LIFE[..], &[signal], &functions].concat())
        }
    }
}

/// The programs of one function backend.
struct FunctionPrograms {
    new_anon: &'static [&'static str],
    swap_page: &'static [&'static str],
    wp_copy: &'static [&'static str],
    alloc: &'static [&'static str],
    mm_fault: &'static [&'static str],
    hugetlb_fault: &'static [&'static str],
    hugetlb_new: &'static [&'static str],
    hugetlb_wp: &'static [&'static str],
    huge_split: &'static [&'static str],
    clone: &'static [&'static str],
    wp_page: &'static [&'static str],
}

const FENTRY_PROGRAMS: FunctionPrograms = FunctionPrograms {
    new_anon: &["fentry_new_anon"],
    swap_page: &["fentry_swap_page"],
    wp_copy: &["fentry_wp_copy"],
    alloc: &["fentry_alloc"],
    mm_fault: &["fentry_mm_fault"],
    hugetlb_fault: &["fentry_hugetlb_fault"],
    hugetlb_new: &["fentry_hugetlb_new"],
    hugetlb_wp: &["fentry_hugetlb_wp"],
    huge_split: &["fentry_huge_split"],
    clone: &["fentry_clone"],
    wp_page: &["fentry_wp_page"],
};

const KPROBE_PROGRAMS: FunctionPrograms = FunctionPrograms {
    new_anon: &["kprobe_new_anon"],
    swap_page: &["kprobe_swap_page"],
    wp_copy: &["kprobe_wp_copy"],
    alloc: &["kprobe_alloc"],
    mm_fault: &["kprobe_mm_fault"],
    hugetlb_fault: &["kprobe_hugetlb_fault"],
    hugetlb_new: &["kprobe_hugetlb_new"],
    hugetlb_wp: &["kprobe_hugetlb_wp"],
    huge_split: &["kprobe_huge_split"],
    clone: &["kprobe_clone"],
    wp_page: &["kprobe_wp_page"],
};

fn function_hooks(
    functions: &KernelFunctions,
    programs: &FunctionPrograms,
    point: impl Fn(&'static str) -> Point,
) -> Vec<Hook> {
    const COPIES: Gives = Gives::Everything("copies and first touches");
    const SWAP: Gives = Gives::Everything("pages that come back from swap");
    const HUGETLB: Gives = Gives::Kinds(&[Kind::Hugetlb, Kind::HugetlbReuse], "copies of hugetlb pages");
    const SPLITS: Gives = Gives::Kinds(&[Kind::HugeSplit], "splits of huge pages");
    const FORKS: Gives =
        Gives::Kinds(&[Kind::Pinned], "pinned pages copied by fork, and the time that fork takes");
    // A hook on each fault tells that one in hugetlb memory begins.
    let (wp_copy, alloc, mm_fault, hugetlb_fault) = match functions.attempt {
        Attempt::Copy { wp_copy } => (Some(wp_copy), None, None, functions.hugetlb_fault),
        Attempt::Allocation { alloc, mm_fault } => (None, Some(alloc), Some(mm_fault), None),
    };
    let wanted = [
        (Some(functions.new_anon), programs.new_anon, COPIES),
        (functions.swap_page, programs.swap_page, SWAP),
        (wp_copy, programs.wp_copy, COPIES),
        (alloc, programs.alloc, COPIES),
        (mm_fault, programs.mm_fault, COPIES),
        (hugetlb_fault, programs.hugetlb_fault, HUGETLB),
        (functions.hugetlb_new, programs.hugetlb_new, HUGETLB),
        (functions.hugetlb_wp, programs.hugetlb_wp, HUGETLB),
        (functions.huge_split, programs.huge_split, SPLITS),
        (functions.clone, programs.clone, FORKS),
        // Last: what it begins, the others go on with.
        (Some(functions.wp_page), programs.wp_page, COPIES),
    ];
    let hook = |(function, programs, gives)| -> Option<Hook> {
        let function: Option<&'static str> = function;
        Some(Hook { programs, point: point(function?), gives, instead: None })
    };
    let mut hooks: Vec<Hook> = wanted.into_iter().filter_map(hook).collect();
    // fentry programs take functions with more than six arguments only since 6.6; hugetlb_wp had seven before 6.11.
    for hook in &mut hooks {
        if let Point::Fentry(name) = hook.point
            && Some(name) == functions.hugetlb_wp
        {
            hook.instead = Some((KPROBE_PROGRAMS.hugetlb_wp, Point::Kprobe(name)));
        }
    }
    hooks
}

/// Adds what tells when each fault begins, where the backend has no such hook for its own sake.
pub(super) fn add_fault_begin(backend: Backend, hooks: &mut Vec<Hook>) {
    const FUNCTION: &str = "handle_mm_fault";
    let (programs, point) = match backend {
        Backend::Tracepoint => return,
        Backend::Fentry => (FENTRY_PROGRAMS.mm_fault, Point::Fentry(FUNCTION)),
        Backend::Kprobe => (KPROBE_PROGRAMS.mm_fault, Point::Kprobe(FUNCTION)),
    };
    if !hooks.iter().any(|hook| hook.programs == programs) {
        let gives = Gives::Everything("when a fault begins, and the instruction that wrote");
        hooks.push(Hook { programs, point, gives, instead: None });
    }
}

/// Kinds that are unknown as the kernel has not even the function that tells them.
pub(super) fn absent_kinds(backend: Backend, layout: &KernelLayout) -> Vec<Kind> {
    let Ok(functions) = &layout.functions else { return Vec::new() };
    if backend == Backend::Tracepoint {
        return Vec::new();
    }
    let mut absent = Vec::new();
    if functions.hugetlb_wp.is_none() || functions.hugetlb_new.is_none() {
        absent.extend([Kind::Hugetlb, Kind::HugetlbReuse]);
    }
    if functions.huge_split.is_none() {
        absent.push(Kind::HugeSplit);
    }
    if functions.clone.is_none() {
        absent.push(Kind::Pinned);
    }
    absent
}
