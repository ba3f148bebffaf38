//! What became of an event: the answer that its publisher gets.

use super::{ConnectionId, CorrelationId, Position};
use serde::Serialize;

/// One delivery that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The connection that did not get it; `None` where the gateway had none.
    pub connection_id: Option<ConnectionId>,
    /// Why, as in logs and statistics.
    pub reason: &'static str,
}

impl Failure {
    /// The reason where the gateway has no live connection (contract section 2).
    pub const NOT_CONNECTED: &str = "gateway not connected";
}

/// How a publish went. `delivered + failed + pending` is `connections`, or, with no connection at all, `failed` is 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishOutcome {
    /// The event's.
    pub correlation_id: CorrelationId,
    /// Where the event stands in its gateway's sequence.
    pub position: Position,
    /// Live connections of the gateway when the event was accepted.
    pub connections: u32,
    /// Written whole to so many sockets.
    pub delivered: u32,
    /// Will not be written.
    pub failed: u32,
    /// Undecided when the time for the answer was up.
    #[serde(skip_serializing_if = "is_zero")]
    pub pending: u32,
    /// One entry for each that failed, up to [`crate::limits::FAILURES_LISTED_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

impl PublishOutcome {
    /// Whether nothing is pending; then the sums are right, or it was not accounted for.
    pub fn is_decided(&self) -> bool {
        self.pending == 0 && self.delivered + self.failed == self.connections.max(1)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}
