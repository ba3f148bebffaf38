//! Failed deliveries that wait to be told: bounded, and what finds no room is counted.

use crate::{
    limits,
    model::{ConnectionId, CorrelationId, EventType, GatewayId},
};
use std::collections::VecDeque;

/// A failed delivery, for the log (contract section 4).
#[derive(Clone, Debug)]
pub struct DeliveryFailure {
    /// To which gateway.
    pub gateway: GatewayId,
    /// On which connection; `None` where there was none.
    pub connection: Option<ConnectionId>,
    /// What kind of event.
    pub kind: EventType,
    /// Which one.
    pub correlation: CorrelationId,
    /// Why.
    pub reason: &'static str,
}

/// What [`super::Shard::poll_failure`] tells.
#[derive(Clone, Debug)]
pub enum Failed {
    /// One delivery.
    One(DeliveryFailure),
    /// This many deliveries failed behind the last one told, and nobody could be told of each: see
    /// [`limits::FAILURES_QUEUED_MAX`].
    LeftOut(u64),
}

/// The queue.
#[derive(Default)]
pub(super) struct Failures {
    queue: VecDeque<DeliveryFailure>,
    left_out: u64,
}

impl Failures {
    pub(super) fn push(&mut self, failure: DeliveryFailure) {
        if self.queue.len() < limits::FAILURES_QUEUED_MAX {
            self.queue.push_back(failure);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Failed> {
        if let Some(failure) = self.queue.pop_front() {
            return Some(Failed::One(failure));
        }
        if self.queue.capacity() > ROOM_KEPT {
            self.queue = VecDeque::new();
        }
        (self.left_out > 0).then(|| Failed::LeftOut(std::mem::take(&mut self.left_out)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.left_out == 0
    }
}

const ROOM_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_beyond_the_bound_are_counted_and_told_last() {
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
        assert!(failures.queue.capacity() <= ROOM_KEPT);
    }
}
