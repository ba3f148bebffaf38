//! The schedule of one core: each kind of work's share of a round, and the length of a pass.
//!
//! A round gives every kind of work its share, in this order; a pass consists of as many rounds as fit into
//! [`PASS_TIME`]. So one peer's work delays another's by one round at most, and a deadline by a few rounds.

use std::time::Duration;

/// A pass ends with the round in which this time is over. Then the sockets are polled.
// The runtime preempts nothing: until a pass returns, the core receives no readiness event. With 500 µs it is held for at most a
// millisecond in usual rounds, and polling the sockets between passes does not show in measurements.
pub(super) const PASS_TIME: Duration = Duration::from_micros(500);

/// A kind of work's part of one round: a number of visits or a time, whichever ends first.
#[derive(Clone, Copy)]
pub(super) struct Share {
    pub(super) visits: usize,
    pub(super) time: Duration,
}

const fn share(visits: usize, micros: u64) -> Share {
    Share { visits, time: Duration::from_micros(micros) }
}

/// Deadlines of connections, publishes and pending requests.
pub(super) const TIMERS: Share = share(256, 300);
/// Changes of gateways and tokens.
pub(super) const CONTROL: Share = share(64, 200);
/// Answers of other cores and of the store.
pub(super) const REPLIES: Share = share(256, 500);
/// Requests of other cores.
pub(super) const REQUESTS: Share = share(256, 500);
/// Established links that have bytes to read.
pub(super) const READ: Share = share(32, 1_000);
/// Slices of calls that are too long for one visit.
pub(super) const SLICES: Share = share(4, 300);
/// Requests to the log of events, and its replies.
pub(super) const LOG: Share = share(4, 1_000);
/// Bytes of events in the log's replies that one visit takes.
pub(super) const LOG_REPLY_BYTES: usize = 1024 * 1024;
/// Links that have something to write.
pub(super) const WRITE: Share = share(128, 1_000);
/// The shard's effects: replies to publishers, and connections to close.
pub(super) const EFFECTS: Share = share(256, 500);
/// Reports of failed deliveries.
pub(super) const FAILURES: Share = share(64, 200);
/// New connections.
pub(super) const ACCEPT: Share = share(4, 100);
/// Links in their handshake.
// A handshake costs about 100 µs, a publish 10 to 20. With a share of their own, two thousand handshakes at once do not
// delay the established connections by 200 ms.
pub(super) const HANDSHAKE: Share = share(4, 300);

/// Links in their handshake that wait for a visit. Over it: new connections wait in the kernel's backlog.
pub(super) const HANDSHAKES_MAX: usize = 256;

/// Small visits between two readings of the clock. A reading costs a part of a small visit.
pub(super) const VISITS_PER_CLOCK_READ: usize = 8;
/// Requests of one link answered in one visit; a pipelining peer waits for its next one.
pub(super) const CALLS_PER_VISIT_MAX: usize = 16;
/// Connections with new events that are queued for each link that is written.
// With 1, those of a gateway with many connections would stand twice in front of another gateway: here and as writers.
pub(super) const WOKEN_PER_WRITE: usize = 8;
/// Bytes that one link writes in one visit, before it goes to the tail of the queue.
pub(super) const WRITE_QUANTUM_BYTES: usize = 64 * 1024;

/// The cost of a visit, which decides when the clock is read next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Visit {
    /// There was no work.
    Idle,
    /// A few microseconds.
    Small,
    /// Possibly far more: read the clock.
    Large,
}
