//! Counters and latencies of a run.

use crate::clock::{Nanos, SECOND};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Counters and latencies so far.
pub struct Tally {
    /// Connections that got their ack.
    pub opened: u64,
    /// Those of them that resumed a TLS session.
    pub resumed: u64,
    /// Attempts that failed before the ack, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Connections that the hub ended after the ack, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Events received, over all connections.
    pub deliveries: u64,
    /// Pings answered.
    pub pings: u64,
    /// Events that were answered with 200.
    pub published: u64,
    /// Events that were not, by status; 0 if the connection failed before the answer.
    pub unpublished: BTreeMap<u16, u64>,
    /// Sums over the answers.
    pub answered: Answered,
    /// From TCP connect to ack, in nanoseconds.
    pub connecting: Histogram<u64>,
    /// From the intended send of an event to its receipt.
    pub delivery: Histogram<u64>,
    /// From the intended send of an event to its answer.
    pub publishing: Histogram<u64>,
    /// Delivery latencies since the last sample.
    pub interval: Histogram<u64>,
    /// Deliveries of the event that `fanout` has published last.
    pub round: Round,
}

/// Sums over the answers to publishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// Deliveries that the hub reports as made.
    pub delivered: u64,
    /// Deliveries that it reports as failed.
    pub failed: u64,
    /// Deliveries that it reports as pending.
    pub pending: u64,
}

/// The deliveries of one event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// How many so far.
    pub count: usize,
    /// Latency of the first.
    pub first: Nanos,
    /// Latency of the last.
    pub last: Nanos,
}

/// A histogram of times in nanoseconds with three significant digits; times over an hour count as an hour.
pub fn times() -> Histogram<u64> {
    // Buckets finer than 1 µs would only cost memory: the clock is read once per event.
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
    /// Records the latency of one delivery.
    pub fn deliver(&mut self, took: Nanos) {
        self.delivery.saturating_record(took);
        self.interval.saturating_record(took);
        // Deliveries are recorded in the order of their arrival, so the latest call has the last one.
        if self.round.count == 0 {
            self.round.first = took;
        }
        self.round.count += 1;
        self.round.last = took;
    }

    /// Clears the latencies before a measured phase; the counters go on.
    pub fn restart(&mut self) {
        self.connecting.reset();
        self.delivery.reset();
        self.publishing.reset();
        self.interval.reset();
    }
}
