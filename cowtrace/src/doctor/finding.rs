//! What was found about one subject, and what it means for the user.

use serde::Serialize;

/// How it stands with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All that cowtrace can use is there.
    Good,
    /// Tracing works, but something is lost.
    Limited,
    /// Without it, nothing can be traced.
    Missing,
    /// It could not be found out.
    Unknown,
    /// Not as usual, and of no importance.
    Unneeded,
}

/// A subject in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A short name.
    pub subject: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What is lost; `None` if nothing is.
    pub costs: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    /// Nothing is lost.
    pub(super) fn new(subject: &'static str, state: State, found: impl Into<String>) -> Finding {
        Finding { subject, state, found: found.into(), costs: None, advice: None }
    }

    /// Something is lost.
    pub(super) fn but(self, costs: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { costs: Some(costs.into()), advice: Some(advice.into()), ..self }
    }
}
