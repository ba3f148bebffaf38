//! The schedule of one core: which kind of work gets how much of a round, and how long a pass may last.
//!
//! A round gives every kind of work its share, in this order; a pass is as many rounds as fit into [`PASS_TIME`]. So
//! nothing that one peer asks for holds up another's for longer than a round, and a deadline is late by a few of them at most.

use std::time::Duration;

/// A pass ends with the round in which this is over, and I/O is looked at.
pub(super) const PASS_TIME: Duration = Duration::from_millis(1);

/// A kind of work's part of one round: so many visits, or so much time, whichever ends first.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) visits: usize,
    pub(super) time: Duration,
}

const fn share(visits: usize, micros: u64) -> Share {
    Share { visits, time: Duration::from_micros(micros) }
}

/// Deadlines of connections, publishes and questions.
pub(super) const TIMERS: Share = share(256, 300);
/// Changes of gateways and tokens: a revocation is served before anything else that came from outside.
pub(super) const CONTROL: Share = share(64, 200);
/// Answers of other cores and of the store.
pub(super) const REPLIES: Share = share(256, 500);
/// Requests of other cores.
pub(super) const REQUESTS: Share = share(256, 500);
/// Links that have finished their handshake and have sent something.
pub(super) const READ: Share = share(32, 1_000);
/// Slices of calls that are too long for one turn.
pub(super) const SLICES: Share = share(4, 300);
/// Links that have something to write.
pub(super) const WRITE: Share = share(128, 1_000);
/// Answers to publishers, and connections that the shard closes.
pub(super) const EFFECTS: Share = share(256, 500);
/// Failed deliveries that are told.
pub(super) const FAILURES: Share = share(64, 200);
/// New connections.
pub(super) const ACCEPT: Share = share(4, 100);
/// Links in their handshake.
pub(super) const HANDSHAKE: Share = share(4, 300);

/// Connections in their handshake that wait for a visit. Over it: the next wait in the kernel's backlog.
pub(super) const HANDSHAKES_MAX: usize = 256;

/// Small visits between two looks at the clock.
pub(super) const VISITS_PER_CLOCK_READ: usize = 8;
/// Requests of one link in one visit.
pub(super) const CALLS_PER_VISIT_MAX: usize = 16;
/// Bytes that one link writes in one visit; then it goes to the tail of the queue.
pub(super) const WRITE_QUANTUM_BYTES: usize = 64 * 1024;

/// What a visit came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Visit {
    /// There was nothing to do.
    Idle,
    /// A few microseconds.
    Small,
    /// Perhaps many: look at the clock.
    Large,
}
