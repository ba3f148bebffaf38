//! The outcome of a publish, as its publisher gets it in the answer.

use super::{ConnectionId, CorrelationId, Position};
use serde::Serialize;

/// One delivery that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The connection that did not receive the event; `None` if the gateway had none.
    pub connection_id: Option<ConnectionId>,
    /// The reason, as in logs and statistics.
    pub reason: &'static str,
}

impl Failure {
    /// The reason if the gateway has no live connection (contract section 2).
    pub const NOT_CONNECTED: &str = "gateway not connected";
}

/// The outcome of publishing one event. `delivered + failed + pending` equals `connections`; with no connections,
/// `failed` is 1, or the event is `waiting`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishOutcome {
    /// The event's correlation id.
    pub correlation_id: CorrelationId,
    /// The event's position in its gateway's sequence.
    pub position: Position,
    /// Number of the gateway's live connections when the event was accepted.
    pub connections: u32,
    /// Number of sockets to which the event was written whole.
    pub delivered: u32,
    /// Number of deliveries that failed.
    pub failed: u32,
    /// Number of deliveries that were undecided at the publish timeout.
    pub pending: u32,
    /// The gateway has no connection, and gets the event when it comes back (delivery `processed`).
    pub waiting: bool,
    /// One entry for each failed delivery, up to [`crate::limits::FAILURES_LISTED_MAX`].
    pub failures: Vec<Failure>,
    /// Whether the event was processed, if the publisher has waited for that.
    pub awaiting: Option<Awaiting>,
}

/// What a publisher that waits for the processing of its event has waited for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Awaiting {
    /// Whether each connection of the gateway has processed the event, or the gateway reads by itself what it was not given.
    pub processed: bool,
    /// Why it was passed over, if it was: as in the metrics. Only `replay` counts as processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<&'static str>,
    /// Who has not processed it, up to [`crate::limits::FAILURES_LISTED_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
}

/// A connection that has not processed an event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// The connection; `None` if the gateway has none that could.
    pub connection_id: Option<ConnectionId>,
    /// Why.
    pub reason: &'static str,
    /// Number of events that it has to process before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

impl Missing {
    /// The gateway is at work on the event.
    pub const PROCESSING: &str = "processing";
    /// The gateway has other events to process before.
    pub const BEHIND: &str = "behind";
    /// The gateway was deleted.
    pub const DELETED: &str = "gateway deleted";
    /// The delivery of the gateway was changed.
    pub const CHANGED: &str = "delivery changed";
    /// The log has another epoch: the event may be lost.
    pub const REPLACED: &str = "log replaced";
    /// Too many events are waited for already.
    pub const TOO_MANY: &str = "too many calls wait";
    /// The gateway has another delivery.
    pub const UNPROVED: &str = "delivery of the gateway is `written`";
}

impl PublishOutcome {
    /// Whether every delivery is decided and counted.
    pub fn is_decided(&self) -> bool {
        // A gateway without connections counts as one failed delivery: a publisher that looks at `failed` alone must
        // not take the event for delivered.
        let expected = if self.waiting { self.connections } else { self.connections.max(1) };
        self.pending == 0 && self.delivered + self.failed == expected
    }
}
