//! Connections that wait for the log to say where they begin.

use super::{connection_key::ConnectionKey, retries::pop_due};
use crate::model::{Instant, Position};
use std::collections::VecDeque;

/// What a gateway is told about where its connection begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// The connection is given the events behind this position; `None` if the log did not say in time.
    pub position: Option<Position>,
    /// Whether it goes on behind the position that it asked for; `None` if it asked for none.
    pub resumed: Option<bool>,
}

/// Connections that wait for the log, with the times at which they are answered without it.
#[derive(Debug, Default)]
pub(super) struct JoinDeadlines {
    pub(super) plain: VecDeque<(Instant, ConnectionKey)>,
    pub(super) resuming: VecDeque<(Instant, ConnectionKey)>,
}

impl JoinDeadlines {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<(Instant, ConnectionKey)>| queue.front().map(|(at, _)| *at);
        [first(&self.plain), first(&self.resuming)].into_iter().flatten().min()
    }

    /// Removes the entries in front of those that still wait.
    pub(super) fn skip(&mut self, waits: impl Fn(ConnectionKey) -> bool) {
        for queue in [&mut self.plain, &mut self.resuming] {
            while queue.front().is_some_and(|(_, key)| !waits(*key)) {
                queue.pop_front();
            }
        }
    }

    pub(super) fn pop(&mut self, now: Instant) -> Option<ConnectionKey> {
        pop_due(&mut self.plain, now).or_else(|| pop_due(&mut self.resuming, now))
    }
}
