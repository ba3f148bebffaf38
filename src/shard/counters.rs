//! What one core has refused and closed since its start, by reason; for the metrics.

use crate::model::{CloseReason, Refused};

/// The counters of one core. They cover the connections that this core accepted, or that came to it with their gateway.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Connects of gateways that were not let in, by [`Refused::label`].
    pub connects_refused: Tally<&'static str>,
    /// Gateways' connections that have ended, by [`CloseReason::label`].
    pub closed: Tally<&'static str>,
    /// Other connections that ended by a fault, by its label.
    pub failed: Tally<&'static str>,
    /// HTTP calls that were answered with a status of 400 or above, by that status.
    pub calls_refused: Tally<u16>,
}

impl Default for Counters {
    /// Shows from the start, with 0, each reason that is a fixed one: a rate over a metric that appears with its first event misses it.
    fn default() -> Self {
        Self {
            connects_refused: Tally::of(&Refused::LABELS),
            closed: Tally::of(&CloseReason::LABELS),
            failed: Tally::of(&[TLS, TIMED_OUT, STALLED, NO_ROOM, ORIGIN]),
            calls_refused: Tally::of(&[400, 401, 404, 409, 413, 503]),
        }
    }
}

/// The TLS handshake failed, or TLS broke later.
pub const TLS: &str = "tls";
/// A handshake, a head or a body did not come in time.
pub const TIMED_OUT: &str = "timed out";
/// The peer did not take its answer.
pub const STALLED: &str = "stalled";
/// Closed so that another could be accepted, or not accepted because nothing could be closed.
pub const NO_ROOM: &str = "no room";

/// The upgrade came from an origin that may not connect.
pub const ORIGIN: &str = "origin";

/// A number for each of a few keys.
#[derive(Clone, Debug)]
pub struct Tally<K>(Vec<(K, u64)>);

impl<K: Copy + PartialEq> Tally<K> {
    fn of(keys: &[K]) -> Self {
        Self(keys.iter().map(|key| (*key, 0)).collect())
    }

    /// Counts one.
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
