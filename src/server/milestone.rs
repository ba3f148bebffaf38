//! The events that [`super::ending`] waits for while a hub runs.

use crate::model::ShardId;
use flume::Receiver;
use std::time::Instant;

/// An event that happens at most once for each core, or once for the hub.
pub(super) enum Milestone {
    /// The drain began at this time. It is sent before any core is told to drain.
    DrainBegan(Instant),
    /// The thread of this core is about to end; `Err` holds the reason if it failed.
    CoreEnded(ShardId, Result<(), String>),
}

impl Milestone {
    /// Waits for the next event; `None` once the deadline has passed.
    pub(super) fn next(milestones: &Receiver<Self>, deadline: Option<Instant>) -> Option<Self> {
        match deadline {
            Some(deadline) => milestones.recv_deadline(deadline).ok(),
            None => milestones.recv().ok(),
        }
    }
}
