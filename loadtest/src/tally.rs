//! What happens in a run, counted, and how long it took.

use crate::clock::{Nanos, SECOND};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Counts and times of a run so far.
pub struct Tally {
    /// Connections that got their ack.
    pub opened: u64,
    /// Of those, the ones whose TLS went on from an earlier connection.
    pub resumed: u64,
    /// Attempts that came to nothing, by why.
    pub refused: BTreeMap<String, u64>,
    /// Connections that the hub ended, by how.
    pub ended: BTreeMap<String, u64>,
    /// Events seen, over all connections.
    pub deliveries: u64,
    /// Pings answered.
    pub pings: u64,
    /// Events that the hub has accepted.
    pub published: u64,
    /// Events that it has not, by status; 0 is a connection that broke.
    pub unpublished: BTreeMap<u16, u64>,
    /// What the answers say.
    pub answered: Answered,
    /// TCP connect to ack, in nanoseconds.
    pub connecting: Histogram<u64>,
    /// Intended send to receipt.
    pub delivery: Histogram<u64>,
    /// Intended send to answer.
    pub publishing: Histogram<u64>,
    /// Deliveries since the last sample.
    pub interval: Histogram<u64>,
    /// Deliveries of the event that a fan-out looks at.
    pub round: Round,
}

/// Sums over the answers to publishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// Deliveries that the hub says it has made.
    pub delivered: u64,
    /// That it will not make.
    pub failed: u64,
    /// That were undecided.
    pub pending: u64,
}

/// The deliveries of one event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// How many there were.
    pub count: usize,
    /// The first.
    pub first: Nanos,
    /// The last.
    pub last: Nanos,
}

/// A histogram of times in nanoseconds, exact to a thousandth; an hour and more are the same.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 3_600 * SECOND, 3).expect("the bounds are valid")
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            opened: 0,
            resumed: 0,
            refused: BTreeMap::new(),
            ended: BTreeMap::new(),
            deliveries: 0,
            pings: 0,
            published: 0,
            unpublished: BTreeMap::new(),
            answered: Answered::default(),
            connecting: times(),
            delivery: times(),
            publishing: times(),
            interval: times(),
            round: Round::default(),
        }
    }
}

impl Tally {
    /// A delivery that took so long.
    pub fn deliver(&mut self, took: Nanos) {
        self.delivery.saturating_record(took);
        self.interval.saturating_record(took);
        if self.round.count == 0 {
            self.round.first = took;
        }
        self.round.count += 1;
        self.round.last = took;
    }

    /// Forgets the times, so that what comes is measured by itself; the counts go on.
    pub fn restart(&mut self) {
        self.connecting.reset();
        self.delivery.reset();
        self.publishing.reset();
        self.interval.reset();
    }
}
