//! Counts of the connections and calls that one core has refused or closed since its start, by reason, for the metrics.

use crate::model::{CloseReason, Refused};
use std::time::Duration;

/// The counters of one core. They cover the connections that this core accepted, and those that were handed to it
/// because it owns their gateway.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Refused connects of gateways, by [`Refused::label`].
    pub connects_refused: Tally<&'static str>,
    /// Gateways' connections that have ended, by [`CloseReason::label`].
    pub closed: Tally<&'static str>,
    /// Other connections that ended by a fault, by its label.
    pub failed: Tally<&'static str>,
    /// Connects that asked to go on behind a position, by what came of it: one of the constants below.
    pub resumes: Tally<&'static str>,
    /// Events that a connection of the delivery `processed` was not given, by the reason: one of the constants below.
    pub skipped: Tally<&'static str>,
    /// Events that were behind gateways when they came back.
    pub missed: u64,
    /// Events that lay in the past when their connection began.
    pub replayed: u64,
    /// Pongs that named a position and that no ping asked for.
    pub pongs_unexpected: u64,
    /// The time that gateways took for one event.
    pub processing: Histogram,
    /// HTTP calls that were answered with a status of 400 or above, by that status.
    pub calls_refused: Tally<u16>,
}

impl Default for Counters {
    /// Starts each known reason at 0. Prometheus computes no rate for the first event of a metric that appears only
    /// then.
    fn default() -> Self {
        Self {
            connects_refused: Tally::of(&Refused::LABELS),
            closed: Tally::of(&CloseReason::LABELS),
            failed: Tally::of(&[TLS, TIMED_OUT, STALLED, NO_ROOM, ORIGIN]),
            resumes: Tally::of(&[RESUMED, TRIMMED, UNKNOWN_POSITION, LOG_UNAVAILABLE]),
            skipped: Tally::of(&[REPLAY, POISON, TRIMMED, ERASED, DAMAGED]),
            missed: 0,
            replayed: 0,
            pongs_unexpected: 0,
            processing: Histogram::default(),
            calls_refused: Tally::of(&[400, 401, 404, 409, 413, 503]),
        }
    }
}

/// The TLS handshake failed, or a later TLS record was invalid.
pub const TLS: &str = "tls";
/// A TLS handshake, a request head or a body did not arrive before its deadline.
pub const TIMED_OUT: &str = "timed out";
/// The peer did not read its answer before the write deadline.
pub const STALLED: &str = "stalled";
/// Closed to accept another connection, or not accepted because no connection could be closed.
pub const NO_ROOM: &str = "no room";
/// The upgrade came from an origin that is not allowed.
pub const ORIGIN: &str = "origin";

/// The connection goes on behind the position.
pub const RESUMED: &str = "resumed";
/// Something behind the position is not retained any more, or is damaged.
pub const TRIMMED: &str = "trimmed";
/// The position is of another epoch, above the last event, or none.
pub const UNKNOWN_POSITION: &str = "unknown position";
/// The log did not answer in time: 503.
pub const LOG_UNAVAILABLE: &str = "log unavailable";

/// The type of the event is one that is not delivered late.
pub const REPLAY: &str = "replay";
/// The gateway never got past the event.
pub const POISON: &str = "poison";
/// The event carried a secret, which was erased before it could be delivered.
pub const ERASED: &str = "erased";
/// The event cannot be read.
pub const DAMAGED: &str = "damaged";

/// Numbers of durations, by their length.
#[derive(Clone, Copy, Default, Debug)]
pub struct Histogram {
    /// The number of durations up to each of [`Histogram::ENDS`], and of longer ones; each is in one bucket.
    pub buckets: [u64; Histogram::ENDS.len() + 1],
    /// Their sum.
    pub sum: Duration,
}

impl Histogram {
    /// The longest duration of each bucket.
    pub const ENDS: [Duration; 11] = [
        Duration::from_millis(1),
        Duration::from_millis(5),
        Duration::from_millis(20),
        Duration::from_millis(100),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(5),
        Duration::from_secs(10),
        Duration::from_secs(30),
        Duration::from_secs(60),
    ];

    /// Counts a duration.
    pub fn observe(&mut self, duration: Duration) {
        let bucket = Self::ENDS.partition_point(|end| *end < duration);
        self.buckets[bucket] += 1;
        self.sum += duration;
    }
}

/// A counter for each of a few keys. A scan of a short list is faster than a hash map, and keeps the keys in order.
#[derive(Clone, Debug)]
pub struct Tally<K>(Vec<(K, u64)>);

impl<K: Copy + PartialEq> Tally<K> {
    fn of(keys: &[K]) -> Self {
        Self(keys.iter().map(|key| (*key, 0)).collect())
    }

    /// Adds one to the counter of this key.
    pub fn add(&mut self, key: K) {
        self.add_many(key, 1);
    }

    /// Adds a number to the counter of this key.
    pub fn add_many(&mut self, key: K, number: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += number,
            None => self.0.push((key, number)),
        }
    }

    /// The counter of this key.
    pub fn of_key(&self, key: K) -> u64 {
        self.iter().find(|(known, _)| *known == key).map_or(0, |(_, count)| count)
    }

    /// Each key with its count.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.0.iter().copied()
    }
}
