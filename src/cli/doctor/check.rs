//! The result of one check: what was found, and what to change.

use serde::Serialize;
use std::fmt;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// Whether this check passed.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to change; `None` if the check passed.
    pub remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), remedy: None }
    }

    pub(super) fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, ok: false, found: found.into(), remedy: Some(remedy.into()) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remedy {
            None => write!(f, "ok    {}: {}", self.name, self.found),
            Some(remedy) => write!(f, "FAIL  {}: {}: {remedy}", self.name, self.found),
        }
    }
}
