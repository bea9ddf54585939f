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

/// A figure that is claimed or measured: a count, or a quantity such as milliseconds.
pub(super) trait Figure: Copy + PartialOrd + Send {
    /// As it goes into the report: quantities with four significant digits.
    fn value(self) -> Value;
}

impl Figure for u64 {
    fn value(self) -> Value {
        self.into()
    }
}

impl Figure for f64 {
    fn value(self) -> Value {
        if self == 0.0 || !self.is_finite() {
            return Value::from(if self.is_finite() { 0.0 } else { self });
        }
        let scale = 10f64.powi(3 - self.abs().log10().floor() as i32);
        let rounded = (self * scale).round() / scale;
        // 980, not 980.0.
        if rounded.fract() == 0.0 { Value::from(rounded as i64) } else { Value::from(rounded) }
    }
}

/// A claim as it is put to the test.
///
/// Built from what is expected and measured, then told the rest:
/// `Test::equal("copies", 17, copies).unit("pages").because("one copy for each page")`.
#[must_use = "a claim counts once it is handed to Claims::check"]
#[derive(Debug)]
pub(super) struct Test {
    claim: String,
    expected: Value,
    measured: Value,
    met: bool,
    unit: &'static str,
    why: String,
    setting: Option<String>,
    wrong: bool,
}

impl Test {
    fn new(claim: impl Into<String>, expected: Value, measured: Value, met: bool) -> Test {
        Test {
            claim: claim.into(),
            expected,
            measured,
            met,
            unit: "",
            why: String::new(),
            setting: None,
            wrong: false,
        }
    }

    /// The figure is this one. `None`: what is measured does not exist.
    pub fn equal<T: Figure>(claim: impl Into<String>, expected: T, measured: Option<T>) -> Test {
        Test::new(claim, expected.value(), measure(measured), measured == Some(expected))
    }

    /// The figure is in this range, its ends included.
    pub fn within<T: Figure>(
        claim: impl Into<String>,
        expected: RangeInclusive<T>,
        measured: Option<T>,
    ) -> Test {
        let met = measured.is_some_and(|value| expected.contains(&value));
        let range = format!("{}..{}", expected.start().value(), expected.end().value());
        Test::new(claim, range.into(), measure(measured), met)
    }

    /// The figure is this one, give or take a part of it (0.02: two per cent).
    pub fn near(claim: impl Into<String>, expected: f64, part: f64, measured: Option<f64>) -> Test {
        let margin = (expected * part).abs();
        Test::within(claim, expected - margin..=expected + margin, measured)
    }

    /// The figure is this one or less.
    pub fn at_most<T: Figure>(claim: impl Into<String>, most: T, measured: Option<T>) -> Test {
        let met = measured.is_some_and(|value| value <= most);
        Test::new(claim, format!("at most {}", most.value()).into(), measure(measured), met)
    }

    /// The figure is this one or more.
    pub fn at_least<T: Figure>(claim: impl Into<String>, least: T, measured: Option<T>) -> Test {
        let met = measured.is_some_and(|value| value >= least);
        Test::new(claim, format!("at least {}", least.value()).into(), measure(measured), met)
    }

    /// Unit of both figures.
    pub fn unit(mut self, unit: &'static str) -> Test {
        self.unit = unit;
        self
    }

    /// The reason behind the expected figure.
    pub fn because(mut self, why: impl Into<String>) -> Test {
        self.why = why.into();
        self
    }

    /// What is set up otherwise here, if anything: if the figure is not met (or, of a source that is known to be wrong,
    /// is met), that is why, and it `differs`.
    pub fn unless(mut self, setting: Option<String>) -> Test {
        self.setting = setting;
        self
    }

    /// The source is known to be wrong: the right verdict is `refuted`, and this is what is true instead.
    pub fn known_wrong(mut self, instead: impl Into<String>) -> Test {
        self.wrong = true;
        self.why = instead.into();
        self
    }

    fn judge(self, setting_of_all: Option<&String>) -> Claim {
        let figure = self.expected.as_str().map_or_else(|| self.expected.to_string(), str::to_owned);
        let (measured, why) = (&self.measured, &self.why);
        let (verdict, why) = match (self.setting.as_ref().or(setting_of_all), self.met) {
            (Some(setting), true) if self.wrong && self.setting.is_some() => {
                (Verdict::Differs, setting.clone())
            }
            (_, true) if self.wrong => {
                let text = format!("measured {measured}, as the source says; not expected, because {why}");
                (Verdict::Holds, text)
            }
            (_, true) => (Verdict::Holds, self.why),
            (_, false) if self.wrong => {
                (Verdict::Refuted, format!("measured {measured}, where the source has {figure}: {why}"))
            }
            (Some(setting), false) => (Verdict::Differs, setting.clone()),
            (None, false) if measured.is_null() => {
                (Verdict::Refuted, format!("what was to be measured is not there; expected because {why}"))
            }
            (None, false) => {
                (Verdict::Refuted, format!("measured {measured}; {figure} expected because {why}"))
            }
        };
        let right_verdict = if self.wrong { Verdict::Refuted } else { Verdict::Holds };
        let Test { claim, expected, measured, unit, .. } = self;
        Claim { claim, expected, measured, unit, verdict, why, right_verdict }
    }
}

fn measure<T: Figure>(measured: Option<T>) -> Value {
    measured.map_or(Value::Null, Figure::value)
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

    /// Puts a claim to the test.
    pub(super) fn check(&mut self, test: Test) {
        self.list.push(test.judge(self.setting.as_ref()));
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
        self.check(Test::equal(claim, expected, measured).unit(unit).because(why));
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
        self.check(Test::within(claim, expected, measured).unit(unit).because(why));
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

    #[test]
    fn a_claim_that_is_known_to_be_wrong_must_be_refuted() {
        let mut claims = Claims::default();
        let test = |measured| {
            Test::at_most("RSS", 8u64, Some(measured)).unit("kB").known_wrong("shared pages are resident")
        };
        claims.check(test(51_200));
        claims.check(test(4));
        let list = claims.into_list();
        assert_eq!(list[0].verdict, Verdict::Refuted);
        assert!(list[0].as_it_should());
        assert_eq!(list[0].why, "measured 51200, where the source has at most 8: shared pages are resident");
        assert_eq!(list[1].verdict, Verdict::Holds);
        assert!(!list[1].as_it_should());
    }

    #[test]
    fn a_wrong_claim_that_a_setting_makes_right_differs() {
        let mut claims = Claims::default();
        let test = |measured| {
            let test =
                Test::at_most("fork, as a multiple of vfork", 1.1, Some(measured)).known_wrong("page tables");
            test.unless(Some("pages are 64 kB here".into()))
        };
        claims.check(test(1.0));
        claims.check(test(20.0));
        let list = claims.into_list();
        assert_eq!((list[0].verdict, list[0].why.as_str()), (Verdict::Differs, "pages are 64 kB here"));
        assert_eq!(list[1].verdict, Verdict::Refuted);
        assert!(list.iter().all(Claim::as_it_should));
    }

    #[test]
    fn quantities_have_a_tolerance_and_few_digits() {
        let mut claims = Claims::default();
        claims.check(Test::near("unique pages", 1000.0, 0.02, Some(1_019.987_65)).unit("pages"));
        claims.check(Test::near("unique pages", 1000.0, 0.02, Some(1021.0)).unit("pages"));
        claims.check(Test::at_least("ratio", 1.5, Some(0.001_234_56)));
        let list = claims.into_list();
        assert_eq!((list[0].verdict, list[0].expected.as_str()), (Verdict::Holds, Some("980..1020")));
        assert_eq!(list[0].measured, 1020);
        assert_eq!(list[1].verdict, Verdict::Refuted);
        assert_eq!(list[2].measured, 0.001235);
    }
}
