//! What whoever waits for the end of a running hub is told.

use crate::model::ShardId;
use flume::Receiver;
use std::time::Instant;

/// Something that happens at most once to each core, or to the hub.
pub(super) enum Milestone {
    /// The drain has begun; sent before any core is told to.
    DrainBegan(Instant),
    /// A core's thread is about to end: `Err` with the reason where it did not end in an orderly way.
    CoreEnded(ShardId, Result<(), String>),
}

impl Milestone {
    /// Waits for the next; `None` once the deadline has passed.
    pub(super) fn next(milestones: &Receiver<Self>, deadline: Option<Instant>) -> Option<Self> {
        match deadline {
            Some(deadline) => milestones.recv_deadline(deadline).ok(),
            None => milestones.recv().ok(),
        }
    }
}
