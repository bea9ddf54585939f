//! Why two reports may not be comparable.

use super::compare::has_regions;
use crate::model::{KernelFacts, Lost, Report};

/// A sentence for each reason.
pub(super) fn warnings(a: &Report, b: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    if a.kernel != b.kernel {
        warnings.push(format!("different kernels: {} and {}", kernel(&a.kernel), kernel(&b.kernel)));
    }
    if (&a.backend.name, &a.backend.blind_to) != (&b.backend.name, &b.backend.blind_to) {
        warnings.push(format!("different backends: {} and {}", backend(a), backend(b)));
    }
    for (name, report) in [("A", a), ("B", b)] {
        if !report.complete {
            warnings.push(format!("{name} is not complete: its recorder ended early"));
        }
        if !report.lost.is_none() {
            warnings.push(format!("{name} has losses: {}", losses(&report.lost)));
        }
    }
    for (name, report) in [("A", a), ("B", b)] {
        match report.folded_processes() {
            0 => {}
            count => warnings.push(format!(
                "{name} has {count} processes as sums by command name only (--max-ended), without their mappings"
            )),
        }
    }
    match (has_regions(a), has_regions(b)) {
        (true, false) => {
            warnings.push("B has no mappings (--no-regions): only processes are compared".into())
        }
        (false, true) => {
            warnings.push("A has no mappings (--no-regions): only processes are compared".into())
        }
        _ => {}
    }
    for (name, report, other) in [("A", a, b), ("B", b, a)] {
        if report.stacks.is_none() && other.stacks.is_some() {
            warnings.push(format!("{name} has no stacks (--stacks): they are not compared"));
        }
    }
    warnings
}

fn kernel(kernel: &KernelFacts) -> String {
    format!("{} {} with pages of {} bytes", kernel.release, kernel.arch, kernel.page_size)
}

fn backend(report: &Report) -> String {
    match report.backend.blind_to.join(", ") {
        blind if blind.is_empty() => report.backend.name.clone(),
        blind => format!("{} (cannot see: {blind})", report.backend.name),
    }
}

fn losses(lost: &Lost) -> String {
    let kinds = [
        (lost.events, "records"),
        (lost.processes, "processes or threads"),
        (lost.regions, "faults without a mapping"),
        (lost.stacks, "stacks"),
    ];
    let some = kinds.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}
