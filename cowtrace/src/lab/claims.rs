//! Claims that can fail: what a source says, what was measured, and the verdict.

use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Measured as claimed.
    Holds,
    /// Measured otherwise.
    Refuted,
    /// Measured otherwise, because this kernel or machine is set up otherwise than the source's.
    Differs,
    /// Could not be measured here.
    Unmeasurable,
}

/// One claim and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// What is claimed.
    pub claim: String,
    /// The claimed figure; a range is a string such as `1..2`.
    pub expected: Value,
    /// The measured figure; `null` if what was to be measured is not there.
    pub measured: Value,
    /// Unit of both.
    pub unit: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason behind the figure, or what the measurement shows instead.
    pub why: String,
    /// The verdict that a right tracer gives. Not [`Verdict::Holds`] for a claim that is known to be wrong.
    #[serde(skip)]
    pub right_verdict: Verdict,
}

impl Claim {
    /// Whether the verdict is the right one.
    pub fn as_it_should(&self) -> bool {
        self.verdict == self.right_verdict || self.verdict == Verdict::Differs
    }
}

/// The claims of one experiment, as they are checked.
#[derive(Debug, Default)]
pub struct Claims {
    list: Vec<Claim>,
    setting: Option<String>,
}

impl Claims {
    /// No claims yet. `setting` names what is set up otherwise here than where the sources were written, if
    /// anything: a figure that is not met then `differs`.
    pub fn new(setting: Option<String>) -> Claims {
        Claims { list: Vec::new(), setting }
    }

    /// Claims that a figure is this one. `None`: what is measured does not exist.
    pub fn equal(
        &mut self,
        claim: impl Into<String>,
        expected: u64,
        measured: Option<u64>,
        unit: &'static str,
        why: &str,
    ) {
        self.check(claim.into(), expected.into(), measured, measured == Some(expected), unit, why);
    }

    /// Claims that a figure is in this range.
    pub fn within(
        &mut self,
        claim: impl Into<String>,
        expected: RangeInclusive<u64>,
        measured: Option<u64>,
        unit: &'static str,
        why: &str,
    ) {
        let met = measured.is_some_and(|value| expected.contains(&value));
        let range = format!("{}..{}", expected.start(), expected.end());
        self.check(claim.into(), range.into(), measured, met, unit, why);
    }

    /// A claim that cannot be measured here, and why not.
    pub fn unmeasurable(
        &mut self,
        claim: impl Into<String>,
        expected: impl Into<Value>,
        unit: &'static str,
        why: impl Into<String>,
    ) {
        self.list.push(Claim {
            claim: claim.into(),
            expected: expected.into(),
            measured: Value::Null,
            unit,
            verdict: Verdict::Unmeasurable,
            why: why.into(),
            right_verdict: Verdict::Unmeasurable,
        });
    }

    /// All claims, in the order they were made.
    pub fn into_list(self) -> Vec<Claim> {
        self.list
    }

    fn check(
        &mut self,
        claim: String,
        expected: Value,
        measured: Option<u64>,
        met: bool,
        unit: &'static str,
        why: &str,
    ) {
        let measured = measured.map_or(Value::Null, Value::from);
        let (verdict, why) = match (&self.setting, met) {
            (_, true) => (Verdict::Holds, why.to_owned()),
            (Some(setting), false) => (Verdict::Differs, setting.clone()),
            (None, false) if measured.is_null() => {
                (Verdict::Refuted, format!("what was to be measured is not there; expected because {why}"))
            }
            (None, false) => {
                let figure = expected.as_str().map_or_else(|| expected.to_string(), str::to_owned);
                (Verdict::Refuted, format!("measured {measured}; {figure} expected because {why}"))
            }
        };
        self.list.push(Claim {
            claim,
            expected,
            measured,
            unit,
            verdict,
            why,
            right_verdict: Verdict::Holds,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_met_figure_holds_and_a_missed_one_is_refuted_with_the_measurement() {
        let mut claims = Claims::new(None);
        claims.equal("copies", 17, Some(17), "pages", "each page is copied once");
        claims.equal("copies", 17, Some(16), "pages", "each page is copied once");
        claims.within("resident", 1..=2, Some(2), "pages", "bookkeeping");
        claims.equal("Rss", 68, None, "kB", "it was touched");
        let list = claims.into_list();
        let verdicts: Vec<Verdict> = list.iter().map(|claim| claim.verdict).collect();
        assert_eq!(verdicts, [Verdict::Holds, Verdict::Refuted, Verdict::Holds, Verdict::Refuted]);
        assert!(list[1].why.starts_with("measured 16;"), "{}", list[1].why);
        assert_eq!(list[2].expected, "1..2");
        assert_eq!(list[3].measured, Value::Null);
        assert!(!list[1].as_it_should() && list[0].as_it_should());
    }

    #[test]
    fn another_setting_makes_a_missed_figure_differ() {
        let mut claims = Claims::new(Some("pages are 16 kB here".into()));
        claims.equal("Rss", 68, Some(80), "kB", "17 pages");
        claims.equal("copies", 0, Some(0), "pages", "nobody else");
        let list = claims.into_list();
        assert_eq!((list[0].verdict, list[0].why.as_str()), (Verdict::Differs, "pages are 16 kB here"));
        assert_eq!(list[1].verdict, Verdict::Holds);
    }
}
