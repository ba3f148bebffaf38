//! What a shard notes of the frames that gateways send.

use super::{ConnectionKey, Shard};
use crate::model::Now;
use std::time::Duration;

impl Shard {
    /// Records that the peer sent something; `round_trip` is the time from a ping to its pong, if it was a pong.
    pub fn handle_life(&mut self, now: Now, key: ConnectionKey, round_trip: Option<Duration>) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        debug_assert!(now.instant >= connection.connected, "the clock does not run backwards");
        connection.last_heartbeat = now.wall;
        connection.stale = false;
        if let Some(round_trip) = round_trip {
            connection.round_trip_us = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        }
    }

    /// Counts a `deployment.ack`; `went_well` if its status is `success`.
    pub fn handle_ack(&mut self, went_well: bool) {
        let count = if went_well { &mut self.inbound.acknowledged } else { &mut self.inbound.refused };
        *count += 1;
    }

    /// Counts a text message that is not a JSON object with a `type`.
    pub fn handle_malformed(&mut self) {
        self.inbound.malformed += 1;
    }

    /// Marks a connection as stale: its peer was silent for the heartbeat timeout, but its kernel acknowledges bytes.
    pub fn handle_stale(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.registry.connection_mut(key) {
            connection.stale = true;
        }
    }
}
