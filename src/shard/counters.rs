//! Counts of the connections and calls that one core has refused or closed since its start, by reason, for the metrics.

use crate::model::{CloseReason, Refused};

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

/// A counter for each of a few keys. A scan of a short list is faster than a hash map, and keeps the keys in order.
#[derive(Clone, Debug)]
pub struct Tally<K>(Vec<(K, u64)>);

impl<K: Copy + PartialEq> Tally<K> {
    fn of(keys: &[K]) -> Self {
        Self(keys.iter().map(|key| (*key, 0)).collect())
    }

    /// Adds one to the counter of this key.
    pub fn add(&mut self, key: K) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => self.0.push((key, 1)),
        }
    }

    /// Each key with its count.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        self.0.iter().copied()
    }
}
