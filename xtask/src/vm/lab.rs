//! What a guest's lab found, from its JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::plan::ARTICLE_STEPS;

/// The lab on one backend of one kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lab {
    /// Version of the kernel.
    pub release: String,
    /// Experiments that it ran.
    pub experiments: Vec<String>,
    /// Pages of the ledger that nothing explains, regardless of sign, by experiment; none where all are explained.
    pub residual_pages: BTreeMap<String, u64>,
    /// What the tracer lost, of all sorts, by experiment; none where nothing was lost.
    pub lost: BTreeMap<String, u64>,
    /// Claims by `experiment: claim`.
    pub claims: BTreeMap<String, Claim>,
    /// Faults in the heaps of the article's steps, by `experiment: process, kind`.
    pub counts: BTreeMap<String, Value>,
}

/// A claim and what became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claim {
    /// `holds`, `refuted`, `differs`, `unmeasurable`.
    pub verdict: String,
    /// The measured figure.
    pub measured: Value,
    /// The reason that the lab gives.
    pub why: String,
}

/// All labs among the results of a guest, with the names of their backends.
pub fn read(results: &str) -> Vec<(String, Lab)> {
    // One after the other; what is cut short at the end is no lab.
    let documents = serde_json::Deserializer::from_str(results).into_iter::<Value>().map_while(Result::ok);
    documents
        .filter_map(|lab| Some((lab["backend"]["name"].as_str()?.to_owned(), Lab::from_json(&lab))))
        .collect()
}

impl Lab {
    fn from_json(lab: &Value) -> Lab {
        let mut found = Lab { release: text(&lab["kernel"]["release"]), ..Lab::default() };
        for experiment in list(&lab["experiments"]) {
            let id = text(&experiment["id"]);
            // What is no number there is no explanation either.
            let residual = list(&experiment["ledger"])
                .iter()
                .map(|row| row["residual_pages"].as_i64().map_or(1, i64::unsigned_abs));
            let lost = experiment["report"]["lost"].as_object().into_iter().flatten();
            let lost = lost.map(|(_, count)| count.as_u64().unwrap_or(1));
            for (figures, sum) in
                [(&mut found.residual_pages, residual.sum()), (&mut found.lost, lost.sum::<u64>())]
            {
                if sum != 0 {
                    figures.insert(id.clone(), sum);
                }
            }
            for claim in list(&experiment["claims"]) {
                found.claim(&format!("{id}: {}", text(&claim["claim"])), claim);
            }
            if ARTICLE_STEPS.contains(&id.as_str()) {
                found.heaps(&id, experiment);
            }
            found.experiments.push(id);
        }
        found
    }

    fn claim(&mut self, name: &str, claim: &Value) {
        let read = Claim {
            verdict: text(&claim["verdict"]),
            measured: claim["measured"].clone(),
            why: text(&claim["why"]),
        };
        // Some experiments claim the same thing several times.
        let mut names =
            (1..).map(|time| if time == 1 { name.to_owned() } else { format!("{name} ({time})") });
        if let Some(free) = names.find(|name| !self.claims.contains_key(name)) {
            self.claims.insert(free, read);
        }
    }

    fn heaps(&mut self, id: &str, experiment: &Value) {
        for (index, process) in list(&experiment["report"]["processes"]).iter().enumerate() {
            let heap = list(&process["regions"]).iter().find(|region| region["name"] == "[heap]");
            for (kind, count) in heap.and_then(|heap| heap["faults"].as_object()).into_iter().flatten() {
                // What the backend cannot know is no count.
                if !count.is_null() {
                    self.counts.insert(format!("{id}: process {index}, {kind}"), count.clone());
                }
            }
        }
    }

    /// Claims with this verdict.
    pub fn count(&self, verdict: &str) -> usize {
        self.claims.values().filter(|claim| claim.verdict == verdict).count()
    }
}

impl Claim {
    /// Whether the figure was measured, and is what it is because of the tracer, not of a setting.
    pub fn is_measured(&self) -> bool {
        !["differs", "unmeasurable"].contains(&self.verdict.as_str())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// A lab as cowtrace writes it, made short: one of the article's steps, and one other experiment.
    pub fn document(backend: &str, copies: u64) -> String {
        let claim = |claim: &str, measured: Value, verdict: &str| json!({"claim": claim, "expected": 17, "measured": measured, "unit": "pages", "verdict": verdict, "why": "because"});
        let heap = |faults: Value| json!({"pid": 2, "regions": [{"name": "[stack]", "faults": {"copy": 2}}, {"name": "[heap]", "faults": faults}]});
        let lost = json!({"events": 0, "processes": 0, "regions": 0, "stacks": 0});
        json!({
            "schema": "cowtrace.lab/1", "kernel": {"release": "6.12.107"}, "backend": {"name": backend},
            "experiments": [
                {"id": "child-writes",
                 "claims": [claim("copies in its heap", copies.into(), "holds"), claim("copies in its heap", 0.into(), "holds")],
                 "ledger": [{"residual_pages": 0}],
                 "report": {"lost": lost, "processes": [heap(json!({"anon": 17, "pinned": null})), heap(json!({"copy": copies}))]}},
                {"id": "pinned-pages",
                 "claims": [claim("counted", Value::Null, "unmeasurable"), claim("wrong", 1.into(), "refuted")],
                 "ledger": [{"residual_pages": 0}, {"residual_pages": 0}],
                 "report": {"lost": lost, "processes": []}}]
        })
        .to_string()
    }

    #[test]
    fn a_lab_is_read() {
        let (backend, lab) = read(&document("kprobe", 17)).pop().unwrap();
        assert_eq!((backend.as_str(), lab.release.as_str()), ("kprobe", "6.12.107"));
        assert_eq!(lab.experiments, ["child-writes", "pinned-pages"]);
        assert_eq!((lab.residual_pages.len(), lab.lost.len()), (0, 0));
        let verdicts = ["holds", "refuted", "differs", "unmeasurable"].map(|verdict| lab.count(verdict));
        assert_eq!(verdicts, [2, 1, 0, 1]);
        assert_eq!(lab.claims["child-writes: copies in its heap (2)"].measured, 0);
        let counts: Vec<_> = lab.counts.iter().map(|(name, count)| (name.as_str(), count.as_u64())).collect();
        assert_eq!(
            counts,
            [("child-writes: process 0, anon", Some(17)), ("child-writes: process 1, copy", Some(17))]
        );
    }

    #[test]
    fn residuals_and_losses_are_summed_up_whatever_their_sign() {
        let text = document("fentry", 17).replace("\"residual_pages\":0", "\"residual_pages\":-2");
        let (_, lab) = read(&text.replace("\"events\":0", "\"events\":3")).pop().unwrap();
        let sum = |figures: &BTreeMap<String, u64>| figures.values().sum::<u64>();
        assert_eq!((sum(&lab.residual_pages), sum(&lab.lost)), (6, 6));
    }

    #[test]
    fn several_labs_follow_each_other_and_half_a_one_is_none() {
        let text =
            format!("{}\n{}\n{}", document("fentry", 17), document("kprobe", 17), &document("x", 1)[..90]);
        let backends: Vec<_> = read(&text).into_iter().map(|(backend, _)| backend).collect();
        assert_eq!(backends, ["fentry", "kprobe"]);
        assert!(read("").is_empty());
    }
}
