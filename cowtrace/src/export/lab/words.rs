//! Words and numbers that all forms of the lab's report share.

use serde_json::Value;

use super::super::thousands;
use crate::{
    lab::claims::Verdict,
    ledger::{Explained, Row},
};

/// Verdicts in the order in which they are told.
pub(super) const VERDICTS: [Verdict; 4] =
    [Verdict::Holds, Verdict::Refuted, Verdict::Differs, Verdict::Unmeasurable];

/// A sign for a verdict, so that it is not told by colour alone.
pub(super) fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "✓",
        Verdict::Refuted => "✗",
        Verdict::Differs => "≠",
        Verdict::Unmeasurable => "?",
    }
}

/// A verdict as the JSON has it.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Refuted => "refuted",
        Verdict::Differs => "differs",
        Verdict::Unmeasurable => "unmeasurable",
    }
}

/// What a verdict means.
pub(super) fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "measured as claimed",
        Verdict::Refuted => "measured otherwise: the claim is wrong",
        Verdict::Differs => "measured otherwise, because of a setting of this kernel or machine",
        Verdict::Unmeasurable => "could not be measured here",
    }
}

/// An expected or measured figure.
pub(super) fn figure(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), thousands),
        other => other.to_string(),
    }
}

/// A count in a table where most are 0.
pub(super) fn dot(count: u64) -> String {
    if count == 0 { "·".into() } else { thousands(count) }
}

/// A number of things: `1 page`, `17 pages`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// A quantity with four significant digits at most.
pub(super) fn quantity(value: f64) -> String {
    if value.abs() >= 1000.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", thousands(value.abs().round() as u64));
    }
    let before = if value.abs() < 1.0 { 0 } else { value.abs().log10().floor() as usize + 1 };
    let text = format!("{value:.*}", 4_usize.saturating_sub(before.max(1)));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Milliseconds as seconds.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms as f64 / 1e3;
    if ms < 10_000 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

/// Whose claims an experiment checks.
pub(super) fn source(source: &str) -> String {
    // Sources are files; what is beyond them has no file.
    if source.ends_with(".txt") { format!("checks {source}") } else { source.to_owned() }
}

/// `Linux 6.18.44, x86_64, pages of 4 KiB`; empty if it is not known.
pub(super) fn kernel(kernel: &Value) -> String {
    let text = |key: &str| kernel.get(key).and_then(Value::as_str);
    let (Some(release), Some(arch)) = (text("release"), text("arch")) else { return String::new() };
    let pages = kernel.get("page_size").and_then(Value::as_u64);
    let pages = pages.map_or_else(String::new, |bytes| format!(", pages of {} KiB", bytes / 1024));
    format!("Linux {release}, {arch}{pages}")
}

/// The backend's name; empty if it is not known.
pub(super) fn backend(backend: &Value) -> &str {
    backend.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// What the backend cannot see, in plain words.
pub(super) fn blind_to(backend: &Value) -> Vec<String> {
    let list = backend.get("blind_to").and_then(Value::as_array);
    let words = list.into_iter().flatten().filter_map(Value::as_str).map(|word| match word {
        "gup" => "copies that the kernel makes without a page fault (ptrace, process_vm_writev, direct I/O)",
        "pinned" => "pinned pages that are copied at the fork itself",
        other => other,
    });
    words.map(str::to_owned).collect()
}

/// A mapping in few columns: a file without its folders.
pub(super) fn mapping(region: &str, perms: &str) -> String {
    if !region.starts_with('/') {
        return region.to_owned();
    }
    format!("{} {perms}", region.rsplit('/').next().unwrap_or(region))
}

/// Why pages moved, and how many for each reason.
fn reasons(explained: &Explained) -> [(&'static str, i64); 11] {
    [
        ("copied", explained.copy),
        ("zero page", explained.zero),
        ("first touch", explained.anon),
        ("file copied", explained.file),
        ("KSM copied", explained.ksm),
        ("pinned, copied by fork", explained.pinned),
        ("left by others", explained.unshared_by_others),
        ("given up", explained.given_up),
        ("merged by KSM", explained.merged),
        ("unmapped", explained.unmapped),
        ("page cache", explained.page_cache),
    ]
}

/// `+1,024`, `-3`.
fn signed(pages: i64) -> String {
    format!("{}{}", if pages < 0 { "-" } else { "+" }, thousands(pages.unsigned_abs()))
}

/// `+17 copied, -3 given up`: of one mapping, or of several together.
pub(in crate::export) fn moves(rows: &[&Row]) -> String {
    let mut sums = reasons(&Explained::default());
    for row in rows {
        for ((_, sum), (_, pages)) in sums.iter_mut().zip(reasons(&row.explained_pages)) {
            *sum += pages;
        }
    }
    let shown: Vec<String> = sums
        .iter()
        .filter(|(_, pages)| *pages != 0)
        .map(|(name, pages)| format!("{} {name}", signed(*pages)))
        .collect();
    if shown.is_empty() { "·".into() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_have_few_digits() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.25"),
            (0.123_456, "0.123"),
            (9.5, "9.5"),
            (12.345_6, "12.35"),
            (980.0, "980"),
            (999.96, "1000"),
            (12_345.6, "12,346"),
            (-3.0, "-3"),
        ];
        for (value, text) in cases {
            assert_eq!(quantity(value), text, "{value}");
        }
    }

    #[test]
    fn kernels_and_backends_in_words() {
        let facts = json!({"release": "6.18.1", "arch": "x86_64", "page_size": 16384});
        assert_eq!(kernel(&facts), "Linux 6.18.1, x86_64, pages of 16 KiB");
        assert_eq!(kernel(&Value::Null), "");
        let facts = json!({"name": "tracepoint", "blind_to": ["gup", "new"]});
        assert_eq!(backend(&facts), "tracepoint");
        let blind = blind_to(&facts);
        assert!(blind[0].contains("ptrace"), "{blind:?}");
        assert_eq!(blind[1], "new");
    }
}
