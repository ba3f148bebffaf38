//! Why a request was refused: status, metric label and a sentence for the client.

use super::Response;
use std::fmt;

/// A refused request. The connection closes after the response, because it is not known where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer with.
    pub status: u16,
    /// The metric label, one of a small fixed set.
    pub reason: &'static str,
    /// One sentence for the error body. It never repeats bytes of the request, which may be secret.
    pub detail: &'static str,
}

impl Refusal {
    pub(super) const fn new(status: u16, reason: &'static str, detail: &'static str) -> Self {
        Self { status, reason, detail }
    }

    /// The response, which closes the connection.
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
