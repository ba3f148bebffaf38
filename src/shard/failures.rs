//! The queue of failed deliveries to log. It is bounded; failures beyond the bound are only counted.

use crate::{
    limits,
    model::{ConnectionId, CorrelationId, EventType, GatewayId},
};
use std::collections::VecDeque;

/// A failed delivery, for the log (contract section 4).
#[derive(Clone, Debug)]
pub struct DeliveryFailure {
    /// The gateway of the event.
    pub gateway: GatewayId,
    /// The connection; `None` if the gateway had none.
    pub connection: Option<ConnectionId>,
    /// The type of the event.
    pub kind: EventType,
    /// Its correlation id.
    pub correlation: CorrelationId,
    /// The reason, as in answers and statistics.
    pub reason: &'static str,
}

/// An event whose gateway has no connection, and gets it when it comes back.
#[derive(Clone, Debug)]
pub struct Undelivered {
    /// Its gateway.
    pub gateway: GatewayId,
    /// Its type.
    pub kind: EventType,
    /// Its correlation id.
    pub correlation: CorrelationId,
}

/// An entry of [`super::Shard::poll_failure`].
#[derive(Clone, Debug)]
pub enum Failed {
    /// One delivery.
    One(DeliveryFailure),
    /// One event that waits for its gateway.
    Waiting(Undelivered),
    /// Number of deliveries that failed while [`limits::FAILURES_QUEUED_MAX`] others were queued.
    LeftOut(u64),
}

/// The queue, and the number of failures that it left out.
#[derive(Default)]
pub(super) struct Failures {
    queue: VecDeque<Failed>,
    left_out: u64,
}

impl Failures {
    pub(super) fn push(&mut self, failure: DeliveryFailure) {
        if self.queue.len() < limits::FAILURES_QUEUED_MAX {
            self.queue.push_back(Failed::One(failure));
        } else {
            self.left_out += 1;
        }
    }

    /// An event that waits has not failed: it is not counted where there is no room to log it.
    pub(super) fn push_waiting(&mut self, waiting: Undelivered) {
        if self.queue.len() < limits::FAILURES_QUEUED_MAX {
            self.queue.push_back(Failed::Waiting(waiting));
        }
    }

    pub(super) fn pop(&mut self) -> Option<Failed> {
        if let Some(failed) = self.queue.pop_front() {
            return Some(failed);
        }
        // A connection that is far behind can fail thousands of deliveries at once. Their memory is not kept for the
        // next.
        if self.queue.capacity() > CAPACITY_KEPT {
            self.queue = VecDeque::new();
        }
        (self.left_out > 0).then(|| Failed::LeftOut(std::mem::take(&mut self.left_out)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.left_out == 0
    }
}

/// Entries for which an empty queue keeps its memory.
const CAPACITY_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_beyond_the_bound_are_counted_and_reported_last() {
        let mut failures = Failures::default();
        let failure = DeliveryFailure {
            gateway: GatewayId::random(),
            connection: None,
            kind: EventType::parse("t").unwrap(),
            correlation: CorrelationId::random(),
            reason: "r",
        };
        for _ in 0..limits::FAILURES_QUEUED_MAX + 7 {
            failures.push(failure.clone());
        }
        for _ in 0..limits::FAILURES_QUEUED_MAX {
            assert!(matches!(failures.pop(), Some(Failed::One(_))));
        }
        assert!(matches!(failures.pop(), Some(Failed::LeftOut(7))));
        assert!(failures.pop().is_none() && failures.is_empty());
        assert!(failures.queue.capacity() <= CAPACITY_KEPT);
    }
}
