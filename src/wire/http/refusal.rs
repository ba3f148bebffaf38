//! A request that is not served: the status, the label and the sentence for whoever sent it.

use super::Response;
use std::fmt;

/// Why a request was refused. The connection ends with the answer: where the next request would begin is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer with.
    pub status: u16,
    /// The metric label; one of a few.
    pub reason: &'static str,
    /// One sentence for the error body. It never repeats what was sent.
    pub detail: &'static str,
}

impl Refusal {
    pub(super) const fn new(status: u16, reason: &'static str, detail: &'static str) -> Self {
        Self { status, reason, detail }
    }

    /// The answer. It always closes.
    pub fn response(&self) -> Response {
        Response::error(self.status, self.detail).closing()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.reason, self.detail)
    }
}

impl std::error::Error for Refusal {}
