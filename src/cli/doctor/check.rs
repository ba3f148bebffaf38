//! One thing that a hub needs: what was found, and what to do about it.

use serde::Serialize;
use std::fmt;

/// One thing that a hub needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether the hub can run as far as this is concerned.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do about it; `None` where all is well.
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
