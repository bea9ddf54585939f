//! Whether a thread can be preempted while it runs in the kernel.

use std::fs;

/// Where the model can be chosen at boot, debugfs shows the choice.
const CHOICE: &str = "/sys/kernel/debug/sched/preempt";
const VERSION: &str = "/proc/sys/kernel/version";

/// The kernel's preemption model, as far as it matters to tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// Kernel code is left only where it waits (none, voluntary).
    Off,
    /// It can be preempted (full, lazy, real-time).
    On,
    /// The model was chosen at boot, and debugfs is not there to tell which it is.
    Unknown,
}

/// Of the running kernel.
pub fn preemption() -> Preemption {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    of_choice(&read(CHOICE)).unwrap_or_else(|| of_version(&read(VERSION)))
}

/// `none voluntary (full) lazy`: the choice is in parentheses.
fn of_choice(text: &str) -> Option<Preemption> {
    let (_, rest) = text.split_once('(')?;
    Some(match rest.split_once(')')?.0 {
        "none" | "voluntary" => Preemption::Off,
        _ => Preemption::On,
    })
}

/// `#1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1`: without a choice at boot, the model's name, or none.
fn of_version(text: &str) -> Preemption {
    let word = text.split_ascii_whitespace().find(|word| word.starts_with("PREEMPT"));
    match word {
        None => Preemption::Off,
        Some("PREEMPT_DYNAMIC") => Preemption::Unknown,
        Some(_) => Preemption::On,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_in_parentheses() {
        assert_eq!(of_choice("none (voluntary) full\n"), Some(Preemption::Off));
        assert_eq!(of_choice("(full) lazy\n"), Some(Preemption::On));
        assert_eq!(of_choice(""), None);
    }

    #[test]
    fn the_version_names_the_model() {
        assert_eq!(of_version("#1 SMP Debian 5.10.223-1 (2024-08-10)"), Preemption::Off);
        assert_eq!(of_version("#1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1"), Preemption::Unknown);
        assert_eq!(of_version("#1 SMP PREEMPT_RT Debian 6.1"), Preemption::On);
    }

    #[test]
    fn frozen_kernels() {
        let lines = [
            ("5.10", Preemption::Off),
            ("6.1", Preemption::Off),
            ("6.12", Preemption::Off),
            ("6.18", Preemption::Unknown),
            ("7.2", Preemption::On),
        ];
        for (line, expected) in lines {
            let facts = crate::kernel::fixtures::named(line).facts;
            let choice = of_choice(facts.preemption.as_deref().unwrap_or_default());
            assert_eq!(choice.unwrap_or_else(|| of_version(&facts.version)), expected, "{line}");
        }
    }
}
